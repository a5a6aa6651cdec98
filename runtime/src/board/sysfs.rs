//! The control files below a sysfs root.
//!
//! Every file is opened when it is added and kept open: reading and writing later needs no path, no
//! allocation and, for power samples taken in the loop, no `open`. The kernel makes the text of a
//! sysfs or debugfs file anew for every read at offset 0.

use super::controls::Controls;
use super::node::{Cause, Node, NodeError};
use super::number;
use core::fmt::Write as _;
use nix::sys::statfs;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Text of a control: the longest `u64`, a newline.
type Text = heapless::String<24>;

/// The control files of one board, open.
#[derive(Debug, Default)]
pub struct Sysfs {
    files: Vec<ControlFile>,
}

#[derive(Debug)]
struct ControlFile {
    node: Node,
    /// Kept for the one case in which a file must be opened again: the kernel removes the files of a
    /// CPU cluster when its last core goes offline, and makes new ones when it comes back
    /// (jetson.md 1.2). Shorter than 384 bytes, so that opening it does not allocate.
    path: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// A plain file keeps the tail of a longer old text, so it is cut after a write. The kernel's own
    /// files have no length.
    plain: bool,
}

impl Sysfs {
    /// Adds the file of a node and opens it.
    pub(super) fn add(&mut self, node: Node, path: PathBuf) {
        // A file that cannot be opened now will say why when it is needed.
        let open = open(&path).ok();
        self.files.push(ControlFile { node, path, open });
    }

    /// Every node of this board and its file, in the order of discovery.
    pub fn nodes(&self) -> impl Iterator<Item = (Node, &Path)> {
        self.files
            .iter()
            .map(|file| (file.node, file.path.as_path()))
    }

    /// Where the file of a node is; `None` when the board does not have it.
    #[must_use]
    pub fn path(&self, node: Node) -> Option<&Path> {
        self.nodes()
            .find(|(found, _)| *found == node)
            .map(|(_, path)| path)
    }

    fn call<T>(
        &mut self,
        node: Node,
        cause: fn(i32) -> Cause,
        mut call: impl FnMut(&Open) -> io::Result<T>,
    ) -> Result<T, NodeError> {
        let failed = |cause| NodeError { node, cause };
        let file = self
            .files
            .iter_mut()
            .find(|file| file.node == node)
            .ok_or(failed(Cause::Missing))?;
        if let Some(open) = &file.open {
            match call(open) {
                Err(error) if is_gone(&error) => file.open = None,
                outcome => return outcome.map_err(|error| failed(cause(errno(&error)))),
            }
        }
        let opened = open(&file.path).map_err(|error| failed(Cause::Open(errno(&error))))?;
        call(file.open.insert(opened)).map_err(|error| failed(cause(errno(&error))))
    }
}

impl Controls for Sysfs {
    fn read(&mut self, node: Node) -> Result<u64, NodeError> {
        let mut buffer = [0u8; 64];
        let length = self.call(node, Cause::Read, |open| open.file.read_at(&mut buffer, 0))?;
        let text = buffer.get(..length).unwrap_or_default();
        let value = match node {
            Node::GpuPower => match number::first_line(text) {
                Some("on") => Some(1),
                Some("auto") => Some(0),
                _ => None,
            },
            _ => number::parse_u64(text),
        };
        value.ok_or(NodeError {
            node,
            cause: Cause::NotANumber,
        })
    }

    fn write(&mut self, node: Node, value: u64) -> Result<(), NodeError> {
        let mut text = Text::new();
        let _fits = match (node, value) {
            (Node::GpuPower, 0) => text.write_str("auto\n"),
            (Node::GpuPower, _) => text.write_str("on\n"),
            _ => writeln!(text, "{value}"),
        };
        self.call(node, Cause::Write, |open| {
            open.file.write_all_at(text.as_bytes(), 0)?;
            if open.plain {
                open.file.set_len(text.len() as u64)?;
            }
            Ok(())
        })
    }

    fn has(&self, node: Node) -> bool {
        self.path(node).is_some()
    }

    fn wait(&mut self, pause: Duration) {
        std::thread::sleep(pause);
    }
}

/// Opens for reading and writing; for reading alone where writing is not allowed, so that `doctor`
/// works for every user. A later write then fails with `EBADF`, which names the remedy.
fn open(path: &Path) -> io::Result<Open> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .or_else(|error| match errno(&error) {
            libc::EACCES | libc::EPERM | libc::EROFS => File::open(path),
            _ => Err(error),
        })?;
    let plain = is_plain(&file);
    Ok(Open { file, plain })
}

/// Whether a file is not the kernel's: neither sysfs nor debugfs, nor FUSE (a virtual board, which
/// behaves like them).
pub(super) fn is_plain(file: &File) -> bool {
    let kernels = [
        statfs::SYSFS_MAGIC,
        statfs::DEBUGFS_MAGIC,
        statfs::FUSE_SUPER_MAGIC,
    ];
    statfs::fstatfs(file).is_ok_and(|found| !kernels.contains(&found.filesystem_type()))
}

/// Whether the kernel removed the file under an open descriptor.
fn is_gone(error: &io::Error) -> bool {
    matches!(errno(error), libc::ENODEV | libc::ENOENT | libc::ESTALE)
}

pub(super) fn errno(error: &io::Error) -> i32 {
    // `write_all_at` has one failure without an errno: the file took no byte.
    error.raw_os_error().unwrap_or(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("fulcrum-sysfs-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_plain_file_holds_exactly_what_was_written() {
        let folder = folder("plain");
        let path = folder.join("emc_iso_cap");
        std::fs::write(&path, "0\n").unwrap();
        let mut sysfs = Sysfs::default();
        sysfs.add(Node::EmcCap, path.clone());
        for value in [2_133_000_000, 0, u64::MAX] {
            sysfs.write(Node::EmcCap, value).unwrap();
            assert_eq!(sysfs.read(Node::EmcCap), Ok(value));
            assert_eq!(
                std::fs::read_to_string(&path).unwrap(),
                format!("{value}\n")
            );
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn power_control_is_spelled_on_and_auto() {
        let folder = folder("power");
        let path = folder.join("control");
        std::fs::write(&path, "auto\n").unwrap();
        let mut sysfs = Sysfs::default();
        sysfs.add(Node::GpuPower, path.clone());
        assert_eq!(sysfs.read(Node::GpuPower), Ok(0));
        sysfs.write(Node::GpuPower, 1).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "on\n");
        std::fs::write(&path, "maybe\n").unwrap();
        assert_eq!(
            sysfs.read(Node::GpuPower).unwrap_err().cause,
            Cause::NotANumber
        );
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_comes_later_is_opened_when_needed() {
        let folder = folder("late");
        let path = folder.join("scaling_max_freq");
        let mut sysfs = Sysfs::default();
        sysfs.add(Node::CpuMax(8), path.clone());
        assert_eq!(
            sysfs.read(Node::CpuMax(8)).unwrap_err().cause,
            Cause::Open(libc::ENOENT)
        );
        assert_eq!(
            sysfs.read(Node::CpuMax(4)).unwrap_err().cause,
            Cause::Missing
        );
        std::fs::write(&path, "2201600\n").unwrap();
        assert_eq!(sysfs.read(Node::CpuMax(8)), Ok(2_201_600));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
