//! Folders for tests: temporary ones, and what they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that is removed when it is dropped.
#[derive(Debug)]
pub struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// A new, empty folder.
    ///
    /// # Panics
    /// The machine's folder for temporary files cannot be written.
    #[must_use]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // In memory where there is such a place: these tests make thousands of small files.
        let memory = Path::new("/dev/shm");
        let parent = match memory.is_dir() {
            true => memory.to_owned(),
            false => std::env::temp_dir(),
        };
        let path = parent.join(format!("fulcrum-{}-{count}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for TemporaryFolder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Shows every path below `root` that is no folder to `read`; what it makes of them, by relative path.
/// Links are not followed.
fn collect<T>(
    root: &Path,
    read: impl Fn(&Path, fs::FileType) -> Option<T>,
) -> BTreeMap<PathBuf, T> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let kind = path.symlink_metadata().expect("its kind").file_type();
            if kind.is_dir() {
                folders.push(path);
            } else if let Some(what) = read(&path, kind) {
                let relative = path.strip_prefix(root).expect("below root").to_owned();
                found.insert(relative, what);
            }
        }
    }
    found
}

/// Every plain file below `root` with its text; links are not followed.
///
/// # Panics
/// A file cannot be read.
#[must_use]
pub fn files(root: &Path) -> BTreeMap<PathBuf, String> {
    collect(root, |path, kind| {
        let bytes = kind.is_file().then(|| fs::read(path).expect("its text"))?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    })
}

/// Every link below `root` with what it points to.
///
/// # Panics
/// A folder or a link cannot be read.
#[must_use]
pub fn links(root: &Path) -> BTreeMap<PathBuf, PathBuf> {
    collect(root, |path, kind| {
        kind.is_symlink()
            .then(|| fs::read_link(path).expect("a link"))
    })
}

/// The files of a board below `root`, without those of Fulcrum's own in `run/`.
#[must_use]
pub fn board_files(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = files(root);
    found.retain(|path, _| !path.starts_with("run"));
    found
}

/// Compares two trees and names only the files that differ.
///
/// # Panics
/// They differ.
#[track_caller]
pub fn assert_same(
    found: &BTreeMap<PathBuf, String>,
    expected: &BTreeMap<PathBuf, String>,
    when: &str,
) {
    let paths: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let different: Vec<String> = paths
        .into_iter()
        .filter(|path| found.get(*path) != expected.get(*path))
        .map(|path| {
            let (found, expected) = (found.get(path), expected.get(path));
            format!("{}: {found:?}, expected {expected:?}", path.display())
        })
        .collect();
    assert!(different.is_empty(), "{when}:\n{}", different.join("\n"));
}

/// Copies a tree, links as links.
///
/// # Panics
/// A file cannot be read or written.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        let kind = path.symlink_metadata().expect("its kind");
        if kind.is_dir() {
            copy(&path, &target);
        } else if kind.is_symlink() {
            symlink(fs::read_link(&path).expect("a link"), target).expect("a link");
        } else {
            fs::copy(&path, target).expect("a copy");
        }
    }
}
