//! Keeps the process's memory in place, so that the loop meets no page fault.

use super::ffi;
use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use std::{fmt, fs};

/// What of [`keep`] the system refused. The loop runs all the same, with page faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Why the pages are not locked.
    pub lock: Option<Errno>,
    /// Whether the C allocator refused to keep freed memory.
    pub allocator: bool,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(errno) = self.lock {
            write!(f, "memory is not locked ({}", errno.desc())?;
            if matches!(errno, Errno::EPERM | Errno::ENOMEM) {
                f.write_str("; needs CAP_IPC_LOCK or a higher RLIMIT_MEMLOCK")?;
            }
            f.write_str("): under memory pressure the loop may meet page faults")?;
        }
        if self.allocator {
            if self.lock.is_some() {
                f.write_str("; ")?;
            }
            f.write_str("the C allocator may return freed memory to the kernel")?;
        }
        Ok(())
    }
}

/// Locks the process's pages, and tells the C allocator to keep what is freed. To be called once, after the
/// sessions' warm-up and before the loop.
///
/// Pages the process gets later are locked too if it may lock any number; under a limit that would make a
/// later allocation fail, so only those there now are.
///
/// # Errors
/// What the system refused; the caller warns and goes on.
pub fn keep() -> Result<(), Refused> {
    let flags = if may_lock_any_number() {
        MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE
    } else {
        MlockAllFlags::MCL_CURRENT
    };
    let refused = Refused {
        lock: mlockall(flags).err(),
        allocator: !ffi::keep_freed_memory(),
    };
    if refused == Refused::default() {
        Ok(())
    } else {
        Err(refused)
    }
}

/// Whether the limit on locked memory does not bind this process: it is infinite, or the process has
/// `CAP_IPC_LOCK` (mlock(2), capabilities(7)).
fn may_lock_any_number() -> bool {
    let unlimited =
        getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == RLIM_INFINITY);
    unlimited || fs::read_to_string("/proc/self/status").is_ok_and(|status| has_ipc_lock(&status))
}

/// Whether `CAP_IPC_LOCK` is among the effective capabilities of a `/proc/PID/status`.
fn has_ipc_lock(status: &str) -> bool {
    const CAP_IPC_LOCK: u64 = 1 << 14;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    bits.is_some_and(|bits| bits & CAP_IPC_LOCK != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let refused = Refused {
            lock: Some(Errno::EPERM),
            allocator: true,
        };
        assert_eq!(
            refused.to_string(),
            "memory is not locked (Operation not permitted; needs CAP_IPC_LOCK or a higher \
             RLIMIT_MEMLOCK): under memory pressure the loop may meet page faults; the C allocator may \
             return freed memory to the kernel"
        );
    }

    #[test]
    fn the_capability_is_read_from_the_effective_set() {
        let status = |effective: &str| {
            format!("Name:\tx\nCapInh:\t0000000000004000\nCapEff:\t{effective}\nCapBnd:\tffff\n")
        };
        assert!(has_ipc_lock(&status("000001ffffffffff")));
        assert!(has_ipc_lock(&status("0000000000004000")));
        assert!(
            !has_ipc_lock(&status("00000000a80425fb")),
            "a container's usual set"
        );
        assert!(!has_ipc_lock("Name:\tx\n"));
    }
}
