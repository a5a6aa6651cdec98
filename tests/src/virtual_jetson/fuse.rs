//! The virtual Jetson as a mounted file system: a `--sysfs-root` for any program.
//!
//! Files have no length and take truncation without a word, like sysfs; nothing is cached. Descriptors
//! of a CPU cluster die with its last core (`ENODEV`), and its paths are gone until it comes back.

use super::kernel::Kernel;
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData,
    ReplyDirectory, ReplyEntry, ReplyOpen, ReplyWrite, Request, SessionACL, TimeOrNow, WriteFlags,
};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nothing is cached: a cluster's files may be gone at the next look.
const TTL: Duration = Duration::ZERO;
const ENODEV: i32 = 19;

/// Mounts a kernel at an empty folder, for every user; dropping the session unmounts it.
///
/// # Errors
/// There is no `/dev/fuse`, or this user may not mount.
pub fn mount(kernel: Arc<Mutex<Kernel>>, at: &Path) -> io::Result<BackgroundSession> {
    mount_with(kernel, at, Arc::default())
}

/// As [`mount`], with calls that can be made to hang.
///
/// # Errors
/// As [`mount`].
pub fn mount_with(
    kernel: Arc<Mutex<Kernel>>,
    at: &Path,
    hang: Arc<Hang>,
) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("virtual-jetson".to_owned()),
        MountOption::DefaultPermissions,
    ];
    config.acl = SessionACL::All;
    fuser::spawn_mount(Mounted::new(kernel, hang), at, &config)
}

/// A call of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `read(2)`.
    Read,
    /// `write(2)`.
    Write,
}

/// Makes one call hang, as a driver does whose firmware does not answer: whoever called cannot even be
/// killed before the call returns.
#[derive(Debug, Default)]
pub struct Hang {
    state: Mutex<HangState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct HangState {
    /// Which call, and how many of its kind are still to come.
    armed: Option<(Call, u64)>,
    hanging: bool,
}

impl Hang {
    /// The `k`-th call of a kind from now hangs, counted from 1.
    pub fn arm(&self, call: Call, k: u64) {
        self.lock().armed = Some((call, k));
    }

    /// Waits until a call hangs; tells whether one does.
    pub fn wait(&self, patience: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), patience, |state| !state.hanging);
        waited.unwrap_or_else(PoisonError::into_inner).0.hanging
    }

    /// Lets the call go on, and no other hang.
    pub fn release(&self) {
        *self.lock() = HangState::default();
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, HangState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Comes by with a call.
    fn pass(&self, call: Call) {
        let mut state = self.lock();
        let Some((armed, left)) = state.armed.filter(|(armed, _)| *armed == call) else {
            return;
        };
        state.armed = (left > 1).then_some((armed, left - 1));
        state.hanging = left <= 1;
        self.changed.notify_all();
        let over = self.changed.wait_while(state, |state| state.hanging);
        drop(over.unwrap_or_else(PoisonError::into_inner));
    }
}

/// What an inode is.
#[derive(Clone, Debug)]
enum Inode {
    Folder,
    File,
    Link(PathBuf),
}

struct Mounted {
    kernel: Arc<Mutex<Kernel>>,
    hang: Arc<Hang>,
    /// Path and kind of every inode; inode `n` is entry `n - 1`, the root is the first.
    inodes: Vec<(PathBuf, Inode)>,
    numbers: BTreeMap<PathBuf, u64>,
    start: Instant,
}

impl Mounted {
    fn new(kernel: Arc<Mutex<Kernel>>, hang: Arc<Hang>) -> Self {
        let mut kinds: BTreeMap<PathBuf, Inode> = BTreeMap::new();
        kinds.insert(PathBuf::new(), Inode::Folder);
        {
            let kernel = kernel
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            for (path, link) in kernel.paths() {
                for folder in path.ancestors().skip(1) {
                    kinds.insert(folder.to_owned(), Inode::Folder);
                }
                let kind = link.map_or(Inode::File, |to| Inode::Link(to.to_owned()));
                kinds.insert(path.to_owned(), kind);
            }
        }
        let numbers = (1..)
            .zip(kinds.keys())
            .map(|(n, path)| (path.clone(), n))
            .collect();
        Self {
            kernel,
            hang,
            inodes: kinds.into_iter().collect(),
            numbers,
            start: Instant::now(),
        }
    }

    /// The kernel, with its clock moved to now.
    fn kernel(&self) -> MutexGuard<'_, Kernel> {
        let mut kernel = self
            .kernel
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        kernel.advance_to_us(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX));
        kernel
    }

    fn inode(&self, number: u64) -> Option<&(PathBuf, Inode)> {
        self.inodes
            .get(usize::try_from(number.checked_sub(1)?).ok()?)
    }

    /// Attributes of what is there now.
    fn attributes(&self, number: u64) -> Option<FileAttr> {
        let (path, inode) = self.inode(number)?;
        let (kind, perm, size) = match inode {
            // debugfs is root's as a whole (jetson.md 4.4).
            Inode::Folder if path.ends_with("kernel/debug") => (FileType::Directory, 0o700, 0),
            Inode::Folder => (FileType::Directory, 0o755, 0),
            Inode::File if !self.kernel().exists(path) => return None,
            Inode::File => (FileType::RegularFile, self.kernel().permissions(path), 4096),
            Inode::Link(to) => (FileType::Symlink, 0o777, to.as_os_str().len()),
        };
        Some(FileAttr {
            ino: INodeNo(number),
            size: size as u64,
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    /// The path of an open file; its handle is the generation that it was opened in.
    fn open_file(&self, number: u64, handle: FileHandle) -> Result<&Path, Errno> {
        let (path, _) = self.inode(number).ok_or(Errno::ENOENT)?;
        let kernel = self.kernel();
        match kernel.exists(path) && kernel.generation(path) == handle.0 {
            true => Ok(path),
            false => Err(Errno::from_i32(ENODEV)),
        }
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let number = self
            .inode(parent.0)
            .and_then(|(folder, _)| self.numbers.get(&folder.join(name)));
        match number.and_then(|number| self.attributes(*number)) {
            Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(ino.0) {
            Some(attributes) => reply.attr(&TTL, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.getattr(req, ino, fh, reply);
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.inode(ino.0) {
            Some((_, Inode::Link(to))) => reply.data(to.as_os_str().as_encoded_bytes()),
            _ => reply.error(Errno::EINVAL),
        }
    }

    fn open(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let Some((path, _)) = self.inode(ino.0) else {
            return reply.error(Errno::ENOENT);
        };
        let kernel = self.kernel();
        match kernel.exists(path) {
            true => {
                let handle = FileHandle(kernel.generation(path));
                reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO);
            }
            false => reply.error(Errno::ENOENT),
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.hang.pass(Call::Read);
        let text = self
            .open_file(ino.0, fh)
            .and_then(|path| self.kernel().read(path).map_err(Errno::from_i32));
        match text {
            Ok(text) => {
                let start = usize::try_from(offset)
                    .unwrap_or(usize::MAX)
                    .min(text.len());
                let end = start.saturating_add(size as usize).min(text.len());
                reply.data(text.as_bytes().get(start..end).unwrap_or_default());
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.hang.pass(Call::Write);
        let text = String::from_utf8_lossy(data);
        let written = self
            .open_file(ino.0, fh)
            .and_then(|path| self.kernel().write(path, &text).map_err(Errno::from_i32));
        match written {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Some((folder, _)) = self.inode(ino.0) else {
            return reply.error(Errno::ENOENT);
        };
        let entries = (1u64..).zip(&self.inodes).filter(|(number, (path, _))| {
            path.parent() == Some(folder) && self.attributes(*number).is_some()
        });
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (position, (number, (path, inode))) in (1u64..).zip(entries).skip(start) {
            let kind = match inode {
                Inode::Folder => FileType::Directory,
                Inode::File => FileType::RegularFile,
                Inode::Link(_) => FileType::Symlink,
            };
            let name = path.file_name().unwrap_or_default();
            if reply.add(INodeNo(number), position, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
