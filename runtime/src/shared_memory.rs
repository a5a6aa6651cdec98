//! Memory that two processes share: slots for samples and outputs, beside a request socket.
//!
//! The server makes it, one per client, as an anonymous file (memfd_create(2)) whose size is sealed for good,
//! and passes it over the socket (unix(7), `SCM_RIGHTS`). So a client can neither cut it off under the server
//! (`SIGBUS`), nor see another client's tensors. What a client writes while the server reads is the client's
//! own affair: every value is read once, into memory of the server's, and only then used.
#![expect(unsafe_code, reason = "mapping memory has no safe form")]

use nix::cmsg_space;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use std::ffi::c_void;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

/// Outputs and slots begin at multiples of this: no cache line is shared.
const ALIGNMENT_BYTES: usize = 64;
/// Most memory of one client, and most slots.
const BYTES_MAX: usize = 8 * 1024 * 1024;
const SLOTS_MAX: usize = 64;
/// Least slots, whatever their size: one to fill while the other is served.
const SLOTS_MIN: usize = 2;

/// How the memory is divided: `slots` times a sample and an output, both in 32-bit words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Number of slots.
    pub slots: usize,
    /// Words from a slot's beginning to the next one's.
    pub slot_len: usize,
    /// Words of a sample, at the slot's beginning.
    pub sample_len: usize,
    /// Words from a slot's beginning to its output.
    pub output_at: usize,
    /// Words of an output.
    pub output_len: usize,
}

impl Layout {
    /// Slots for a model's samples and outputs. `None` if one does not fit into an address space.
    #[must_use]
    pub fn of(sample_len: usize, output_len: usize) -> Option<Self> {
        const WORDS: usize = ALIGNMENT_BYTES / 4;
        let output_at = sample_len.checked_next_multiple_of(WORDS)?;
        let slot_len = output_at
            .checked_add(output_len)?
            .checked_next_multiple_of(WORDS)?
            .max(WORDS);
        let fitting = BYTES_MAX / slot_len.checked_mul(4)?;
        let layout = Self {
            slots: fitting.clamp(SLOTS_MIN, SLOTS_MAX),
            slot_len,
            sample_len,
            output_at,
            output_len,
        };
        layout.size_bytes().map(|_| layout)
    }

    /// The layout that a server tells of, if it can be.
    #[must_use]
    pub fn told(
        slots: usize,
        slot_len: usize,
        output_at: usize,
        lengths: (usize, usize),
    ) -> Option<Self> {
        let (sample_len, output_len) = lengths;
        let layout = Self {
            slots,
            slot_len,
            sample_len,
            output_at,
            output_len,
        };
        let fits = sample_len <= output_at && output_at.checked_add(output_len)? <= slot_len;
        (fits && slots > 0 && layout.size_bytes().is_some()).then_some(layout)
    }

    fn size_bytes(&self) -> Option<NonZeroUsize> {
        let bytes = self.slots.checked_mul(self.slot_len)?.checked_mul(4)?;
        NonZeroUsize::new(bytes).filter(|bytes| isize::try_from(bytes.get()).is_ok())
    }
}

/// Mapped memory.
#[derive(Debug)]
pub struct SharedMemory {
    base: NonNull<c_void>,
    layout: Layout,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is reached through atomics only.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// New memory, zeroed, and the file to pass on. Its size never changes.
    ///
    /// # Errors
    /// The system has no memory or no file left.
    pub fn create(layout: Layout) -> io::Result<(Self, OwnedFd)> {
        let too_large = || io::Error::from(ErrorKind::OutOfMemory);
        let size_bytes = layout.size_bytes().ok_or_else(too_large)?;
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = File::from(memfd_create(c"fulcrum-tensors", flags)?);
        file.set_len(size_bytes.get() as u64)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok((Self::map(&file, layout)?, file.into()))
    }

    /// Memory that somebody else made.
    ///
    /// # Errors
    /// It is smaller than its layout, or its size may change, or it cannot be mapped.
    pub fn open(file: OwnedFd, layout: Layout) -> io::Result<Self> {
        let file = File::from(file);
        let seals = SealFlag::from_bits_truncate(fcntl(&file, FcntlArg::F_GET_SEALS)?);
        let holds = layout.size_bytes().is_some_and(|bytes| {
            let file = file.metadata();
            file.is_ok_and(|file| file.len() >= bytes.get() as u64)
        });
        if !holds || !seals.contains(SealFlag::F_SEAL_SHRINK) {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "not the memory that was announced",
            ));
        }
        Self::map(&file, layout)
    }

    fn map(file: impl AsFd, layout: Layout) -> io::Result<Self> {
        let size_bytes = layout
            .size_bytes()
            .ok_or_else(|| io::Error::from(ErrorKind::OutOfMemory))?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; the file cannot shrink below it, so no
        // access faults.
        let base = unsafe { mmap(None, size_bytes, access, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { base, layout })
    }

    /// How it is divided.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    fn words(&self, slot: usize, at: usize, length: usize) -> &[AtomicU32] {
        let slots = self.layout.slots;
        assert!(
            slot < slots && at + length <= self.layout.slot_len,
            "slot {slot} of {slots}"
        );
        // SAFETY: within the mapping, by the assertion and `size_bytes`; the mapping lives as long as `self`,
        // is aligned to a page, and any bits are an `AtomicU32`. Other processes are kept out by nothing,
        // which atomics allow.
        unsafe {
            let first = self
                .base
                .cast::<AtomicU32>()
                .add(slot * self.layout.slot_len + at);
            std::slice::from_raw_parts(first.as_ptr(), length)
        }
    }

    /// The words of a slot's sample, little-endian floats.
    ///
    /// # Panics
    /// There is no such slot.
    #[must_use]
    pub fn sample(&self, slot: usize) -> &[AtomicU32] {
        self.words(slot, 0, self.layout.sample_len)
    }

    /// The words of a slot's output, little-endian floats.
    ///
    /// # Panics
    /// There is no such slot.
    #[must_use]
    pub fn output(&self, slot: usize) -> &[AtomicU32] {
        self.words(slot, self.layout.output_at, self.layout.output_len)
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        if let Some(size_bytes) = self.layout.size_bytes() {
            // SAFETY: the mapping of `map`, which nobody refers to any more: slices borrow `self`.
            let _ = unsafe { munmap(self.base, size_bytes.get()) };
        }
    }
}

/// Sends bytes with a file. All of them, or none.
///
/// # Errors
/// The connection broke, or has no room at once.
pub fn send_with_file(stream: &UnixStream, bytes: &[u8], file: &OwnedFd) -> io::Result<()> {
    let files = [file.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&files)];
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let sent = sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(bytes)],
        &control,
        flags,
        None,
    )?;
    if sent == bytes.len() {
        return Ok(());
    }
    Err(ErrorKind::WriteZero.into())
}

/// Receives bytes with the one file that comes with them.
///
/// # Errors
/// The connection broke, or fewer bytes or no file came.
pub fn receive_with_file(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<OwnedFd> {
    let length = bytes.len();
    let mut space = cmsg_space!(std::os::fd::RawFd);
    let mut into = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_WAITALL;
    let received = recvmsg::<()>(stream.as_raw_fd(), &mut into, Some(&mut space), flags)?;
    let mut files = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = message {
            // SAFETY: the kernel just made these descriptors for this process; nobody else owns them.
            files.extend(
                raw.into_iter()
                    .map(|file| unsafe { OwnedFd::from_raw_fd(file) }),
            );
        }
    }
    match (received.bytes == length, files.pop()) {
        (true, Some(file)) => Ok(file),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn what_one_side_writes_the_other_reads_and_the_size_stays() {
        let layout = Layout::of(3, 2).unwrap();
        assert_eq!(
            (layout.slots, layout.slot_len, layout.output_at),
            (64, 32, 16)
        );
        let (ours, file) = SharedMemory::create(layout).unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        send_with_file(&one, b"here", &file).unwrap();
        drop(file);
        let mut bytes = [0; 4];
        let received = receive_with_file(&other, &mut bytes).unwrap();
        assert_eq!(&bytes, b"here");
        let hostile = File::from(received.try_clone().unwrap());
        for size in [0, 1 << 20] {
            assert!(hostile.set_len(size).is_err(), "the size is sealed");
        }
        let theirs = SharedMemory::open(received, layout).unwrap();
        theirs.sample(63)[2].store(7, Ordering::Relaxed);
        ours.output(0)[1].store(9, Ordering::Relaxed);
        assert_eq!(ours.sample(63)[2].load(Ordering::Relaxed), 7);
        assert_eq!(theirs.output(0)[1].load(Ordering::Relaxed), 9);
        assert!(std::panic::catch_unwind(|| ours.sample(64).len()).is_err());
    }

    #[test]
    fn large_samples_have_few_slots_and_impossible_ones_none() {
        assert_eq!(Layout::of(3 * 224 * 224, 1000).unwrap().slots, 13);
        assert_eq!(Layout::of(10_000_000, 1).unwrap().slots, 2);
        assert_eq!(Layout::of(usize::MAX - 3, 1), None);
        assert_eq!(Layout::of(usize::MAX / 8, 1), None);
        assert_eq!(
            Layout::told(2, 16, 8, (9, 1)),
            None,
            "the output lies in the sample"
        );
        assert_eq!(Layout::told(0, 32, 16, (3, 2)), None);
    }

    #[test]
    fn a_file_that_may_shrink_is_not_mapped() {
        let file = memfd_create(c"plain", MFdFlags::MFD_CLOEXEC).unwrap();
        assert!(SharedMemory::open(file, Layout::of(3, 2).unwrap()).is_err());
    }
}
