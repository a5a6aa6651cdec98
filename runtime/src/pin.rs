//! Keeps the loop's thread on one core, whichever cores a mode leaves online.
//!
//! A power mode takes cores offline. When the core of a pinned thread goes, the kernel moves it and forgets
//! the pin (`select_fallback_rq` in `kernel/sched/core.c`); so the pin is set anew after every change of mode.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The kernel's list of cores that are online, such as `0-3,6` (cputopology.rst). This machine's own,
/// whatever folder a board's files are in.
const ONLINE: &str = "/sys/devices/system/cpu/online";
/// More than the list of the largest board is long.
const TEXT_BYTES: usize = 256;

/// A thread's place.
#[derive(Debug)]
pub struct Pin {
    online: File,
    allowed: CpuSet,
}

impl Pin {
    /// For the calling thread, on the cores it may use now. Nothing is set yet.
    ///
    /// # Errors
    /// The kernel does not list its cores.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            online: File::open(ONLINE)?,
            allowed: sched_getaffinity(Pid::from_raw(0))?,
        })
    }

    /// Puts the calling thread on the last of its cores that is online: the first one serves most interrupts.
    /// Returns that core. Does not allocate.
    ///
    /// # Errors
    /// None is online, or the kernel refuses.
    pub fn follow(&self) -> Result<usize, Errno> {
        let mut text = [0; TEXT_BYTES];
        let length = self.online.read_at(&mut text, 0).map_err(|_| Errno::EIO)?;
        let core = last(&text[..length], |core| {
            self.allowed.is_set(core) == Ok(true)
        });
        let core = core.ok_or(Errno::ENODEV)?;
        let mut only = CpuSet::new();
        only.set(core)?;
        sched_setaffinity(Pid::from_raw(0), &only)?;
        Ok(core)
    }
}

/// The last core of a list for which something holds.
fn last(list: &[u8], holds: impl Fn(usize) -> bool) -> Option<usize> {
    let list = std::str::from_utf8(list).ok()?.trim();
    let mut ranges = list.rsplit(',');
    ranges.find_map(|range| {
        let (first, end) = range.split_once('-').unwrap_or((range, range));
        let (first, end): (usize, usize) = (first.parse().ok()?, end.parse().ok()?);
        (first..=end.min(CpuSet::count()))
            .rev()
            .find(|core| holds(*core))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_allowed_core_of_a_list_is_found() {
        assert_eq!(last(b"0-3,6\n", |_| true), Some(6));
        assert_eq!(last(b"0-3,6\n", |core| core < 5), Some(3));
        assert_eq!(last(b"0\n", |_| true), Some(0));
        assert_eq!(last(b"0-3\n", |_| false), None);
        for strange in [&b""[..], b"\n", b"x-3", b"0-99999999999999999999", b"\xff"] {
            assert_eq!(last(strange, |_| true), None);
        }
    }

    #[test]
    fn a_pinned_thread_is_on_one_core() {
        std::thread::spawn(|| {
            let pin = Pin::new().unwrap();
            let core = pin.follow().unwrap();
            let now = sched_getaffinity(Pid::from_raw(0)).unwrap();
            let count = (0..CpuSet::count())
                .filter(|core| now.is_set(*core) == Ok(true))
                .count();
            assert_eq!((count, now.is_set(core)), (1, Ok(true)));
        })
        .join()
        .unwrap();
    }
}
