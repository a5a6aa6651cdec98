//! Files that are old or new, never torn: how plans, pointers and parameters get onto a disk.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::vec::Vec;

/// Writes a file so that a reader, or a crash at any instant, sees the old bytes or the new ones.
///
/// # Errors
/// Any step that fails: create, write, sync, rename, sync of the folder; a folder or a device at `path`.
/// The old file is then intact.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    refuse_other_than_files(path)?;
    let (folder, beside) = beside(path);
    let written = (|| {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        // Nothing to report if it was never created.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Whether [`replace_file`] could write to `path`, to be asked before long work whose result goes there.
/// Leaves nothing behind.
///
/// # Errors
/// As [`replace_file`], as far as an empty file can tell.
pub fn check_replaceable(path: &Path) -> io::Result<()> {
    refuse_other_than_files(path)?;
    let (_, beside) = beside(path);
    File::create(&beside)?;
    fs::remove_file(&beside)
}

/// A rename would put a plain file in the place of a device or a socket.
fn refuse_other_than_files(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if !found.is_file() => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file; name one, or a file that does not exist yet",
        )),
        _ => Ok(()),
    }
}

/// The folder of a file, and where its new content is written before it is renamed into place.
fn beside(path: &Path) -> (&Path, PathBuf) {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(std::format!(".{}.new", std::process::id()));
    (folder, folder.join(name))
}

/// Removes what [`replace_file`] left beside `path` in processes that were killed. Does what it can: a
/// file that stays takes room and does no harm.
pub fn remove_leftovers(path: &Path) {
    let ((folder, _), Some(name)) = (beside(path), path.file_name()) else {
        return;
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let process = found
            .to_str()
            .zip(name.to_str())
            .and_then(|(found, name)| found.strip_prefix(name)?.strip_prefix('.'))
            .and_then(|rest| rest.strip_suffix(".new")?.parse::<u32>().ok());
        let is_alive = |id: u32| Path::new("/proc").join(std::format!("{id}")).exists();
        if process.is_some_and(|id| !is_alive(id)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Reads a file, at most one byte more than `limit`: enough for a decoder to say that it is too long.
///
/// # Errors
/// Whatever opening or reading the file gives.
pub fn read_limited(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take((limit as u64).saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
