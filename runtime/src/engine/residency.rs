//! Keeps the process's memory in place, so that the loop meets no page fault.

use super::ffi;
use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};
use std::fmt;

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

/// Locks all pages the process has and will have, and tells the C allocator to keep what is freed. To be
/// called once, after the sessions' warm-up and before the loop.
///
/// # Errors
/// What the system refused; the caller warns and goes on.
pub fn keep() -> Result<(), Refused> {
    let refused = Refused {
        lock: mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE).err(),
        allocator: !ffi::keep_freed_memory(),
    };
    if refused == Refused::default() {
        Ok(())
    } else {
        Err(refused)
    }
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
}
