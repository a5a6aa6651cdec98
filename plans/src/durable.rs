//! Files that are old or new, never torn: how plans, pointers and parameters get onto a disk.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::vec::Vec;

/// Writes a file so that a reader, or a crash at any instant, sees the old bytes or the new ones.
///
/// # Errors
/// Any step that fails: create, write, sync, rename, sync of the folder. The old file is then intact.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(std::format!(".{}.new", std::process::id()));
    let beside = folder.join(name);
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
