//! `SCHED_FIFO` for the loop's thread, without falling into the kernel's throttle.
//!
//! Linux lets real-time threads run for `sched_rt_runtime_us` out of every `sched_rt_period_us` (0.95 of 1 s
//! by default) and then stops them: a loop that trains in every gap stands still for 50 ms once a second
//! (measured: 45 to 53 ms). So the loop rests by itself, in pieces of about a millisecond that a request
//! ends at once ([`Rest`]).
//!
//! # References
//! - sched(7), "Limiting the CPU usage of real-time and deadline processes"; kernel
//!   `Documentation/scheduler/sched-rt-group.rst`.
#![expect(unsafe_code, reason = "sched_setscheduler has no safe form")]

use nix::errno::Errno;
use std::{fmt, fs, io};

/// Above ordinary threads, below the kernel's interrupt threads (50).
const PRIORITY: i32 = 10;
/// Shortest rest: a shorter one costs more in switches than it gives.
const REST_MIN_NS: u64 = 1_000_000;
/// What is left of the kernel's share for what the loop does not see: interrupts, a minibatch that ends late.
const RESERVE_PER_MILLE: u64 = 20;
/// Least share of the processor that is worth running with.
const SHARE_MIN_PER_MILLE: u64 = 100;

/// Why the loop does not run in real time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The kernel refuses the policy.
    Policy(Errno),
    /// The kernel leaves real-time threads next to nothing.
    Throttled {
        /// Of every 1,000 units of time.
        share_per_mille: u64,
    },
    /// The kernel does not tell what it leaves them.
    Unknown,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(errno) => write!(
                f,
                "SCHED_FIFO is refused ({}): it needs CAP_SYS_NICE, or RLIMIT_RTPRIO of at least {PRIORITY} \
                 (LimitRTPRIO= in a unit), and a kernel without CONFIG_RT_GROUP_SCHED or with a share for \
                 this group",
                errno.desc()
            ),
            Self::Throttled { share_per_mille } => write!(
                f,
                "real-time threads may run {share_per_mille} of 1000 only; raise \
                 /proc/sys/kernel/sched_rt_runtime_us"
            ),
            Self::Unknown => f.write_str("/proc/sys/kernel/sched_rt_runtime_us cannot be read"),
        }
    }
}

impl std::error::Error for Refused {}

/// How much a real-time thread has to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Of every 1,000 ns of work.
    per_mille: u64,
    owed_ns: u64,
}

impl Rest {
    /// What the kernel asks for: `None` if it stops nobody.
    fn of(runtime_us: i64, period_us: i64) -> Result<Option<Self>, Refused> {
        let Ok(runtime_us) = u64::try_from(runtime_us) else {
            // -1: no limit.
            return Ok(None);
        };
        let period_us = u64::try_from(period_us).unwrap_or(0).max(1);
        let share = runtime_us.saturating_mul(1_000) / period_us;
        let share_per_mille = share.saturating_sub(RESERVE_PER_MILLE);
        if share_per_mille < SHARE_MIN_PER_MILLE {
            return Err(Refused::Throttled {
                share_per_mille: share,
            });
        }
        if share_per_mille >= 1_000 {
            return Ok(None);
        }
        Ok(Some(Self {
            per_mille: ((1_000 - share_per_mille) * 1_000).div_ceil(share_per_mille),
            owed_ns: 0,
        }))
    }

    /// Enters a time of work, and says how long to rest now, if it is worth it.
    pub fn worked(&mut self, took_ns: u64) -> Option<u64> {
        let more_ns = took_ns.saturating_mul(self.per_mille) / 1_000;
        self.owed_ns = self.owed_ns.saturating_add(more_ns);
        (self.owed_ns >= REST_MIN_NS).then_some(self.owed_ns)
    }

    /// Enters a time of rest, asked for or not. What goes beyond is forgotten: the kernel does not save it up.
    pub const fn rested(&mut self, took_ns: u64) {
        self.owed_ns = self.owed_ns.saturating_sub(took_ns);
    }
}

fn set_policy(policy: i32, priority: i32) -> Result<(), Refused> {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the parameters live during the call; 0 is the calling thread.
    let done = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    Errno::result(done).map(drop).map_err(Refused::Policy)
}

fn limits() -> io::Result<[i64; 2]> {
    let number = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/kernel/sched_rt_{name}_us"))?;
        text.trim()
            .parse()
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    };
    Ok([number("runtime")?, number("period")?])
}

/// Whether [`enter`] would be refused; nothing is different afterwards.
///
/// # Errors
/// [`Refused`].
pub fn check() -> Result<(), Refused> {
    enter()?;
    leave();
    Ok(())
}

/// The calling thread is an ordinary one again, which nobody is refused.
pub fn leave() {
    let _ = set_policy(libc::SCHED_OTHER, 0);
}

/// From now on the calling thread runs before every ordinary one; the threads that it starts do not. Returns
/// how it has to rest so that the kernel never stops it.
///
/// # Errors
/// [`Refused`]; the thread is as it was.
pub fn enter() -> Result<Option<Rest>, Refused> {
    let [runtime_us, period_us] = limits().map_err(|_| Refused::Unknown)?;
    let rest = Rest::of(runtime_us, period_us)?;
    set_policy(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, PRIORITY)?;
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_keeps_a_busy_loop_below_the_kernels_share() {
        let mut rest = Rest::of(950_000, 1_000_000).unwrap().unwrap();
        let (mut busy_ns, mut idle_ns) = (0, 0);
        for step in 0..100_000 {
            let step_ns = 50_000 + step % 7 * 100_000;
            busy_ns += step_ns;
            if let Some(due_ns) = rest.worked(step_ns) {
                assert!(due_ns < 2 * REST_MIN_NS, "in small pieces: {due_ns}");
                rest.rested(due_ns);
                idle_ns += due_ns;
            }
        }
        let share_per_mille = busy_ns * 1_000 / (busy_ns + idle_ns);
        assert!((925..=931).contains(&share_per_mille), "{share_per_mille}");
    }

    #[test]
    fn a_wait_counts_as_rest_but_is_not_saved_up() {
        let mut rest = Rest::of(950_000, 1_000_000).unwrap().unwrap();
        assert_eq!(rest.worked(10_000_000), None);
        rest.rested(50_000_000);
        assert_eq!(rest.worked(10_000_000), None);
        assert!(rest.worked(10_000_000).is_some());
    }

    #[test]
    fn without_a_limit_nobody_rests_and_with_next_to_nothing_nobody_starts() {
        assert_eq!(Rest::of(-1, 1_000_000), Ok(None));
        assert!(
            Rest::of(1_000_000, 1_000_000).unwrap().is_some(),
            "the reserve"
        );
        for runtime_us in [0, 100_000] {
            let refused = Rest::of(runtime_us, 1_000_000).unwrap_err();
            assert!(
                refused.to_string().contains("sched_rt_runtime_us"),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_refusal_says_what_is_missing_and_a_check_changes_nothing() {
        match check() {
            Ok(()) => {
                // SAFETY: no arguments but the calling thread.
                let policy = unsafe { libc::sched_getscheduler(0) };
                assert_eq!(policy, libc::SCHED_OTHER);
            }
            Err(refused) => assert!(
                refused.to_string().contains("sched_rt")
                    || refused.to_string().contains("CAP_SYS_NICE")
            ),
        }
        assert!(
            Refused::Policy(Errno::EPERM)
                .to_string()
                .contains("CAP_SYS_NICE")
        );
    }
}
