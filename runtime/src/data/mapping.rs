//! A file of samples in memory without a copy: pages of the file itself, shared with the page cache.
#![expect(
    unsafe_code,
    reason = "a mapping is memory that the compiler knows nothing of"
)]

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

/// A whole file, read only.
///
/// All its pages are read when it is mapped. Whoever replaces a data file has to rename a new one over it:
/// the mapping keeps the old one. A file that is shortened in place while it is mapped ends the process
/// (SIGBUS), as it does for every program that maps files.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<c_void>,
    length: NonZeroUsize,
}

// SAFETY: the memory is only ever read, and belongs to this value.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a file; `None` if it is empty.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn of(file: &File) -> io::Result<Option<Self>> {
        let too_long = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let length = usize::try_from(metadata.len()).map_err(too_long)?;
        let Some(length) = NonZeroUsize::new(length) else {
            return Ok(None);
        };
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE;
        // SAFETY: the kernel chooses a free range of addresses; nothing else is in it.
        let base = unsafe { mmap(None, length, ProtFlags::PROT_READ, flags, file, 0) }?;
        Ok(Some(Self { base, length }))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `length` bytes from `base` on are mapped for reading until `self` is dropped.
        unsafe { std::slice::from_raw_parts(self.base.cast::<u8>().as_ptr(), self.length.get()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `of` and is unmapped only here. It cannot fail for such a range.
        let _ = unsafe { munmap(self.base, self.length.get()) };
    }
}
