//! Fulcrum's cache folder: what was fetched once, whole or not there at all.
//!
//! `$XDG_CACHE_HOME/fulcrum`, or `~/.cache/fulcrum` without that variable (XDG Base Directory Specification
//! 0.8). `fulcrumd` looks for ONNX Runtime in the same place. Everything in it can be deleted at any time.

use anyhow::{Context, bail};
use fulcrum_plan::durable::replace_file;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Fulcrum's cache folder; it need not exist yet.
///
/// # Errors
/// When neither `XDG_CACHE_HOME` nor `HOME` is an absolute path.
pub fn folder() -> anyhow::Result<PathBuf> {
    let path = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let home = || path("HOME").map(|home| home.join(".cache"));
    match path("XDG_CACHE_HOME").or_else(home) {
        Some(cache) => Ok(cache.join("fulcrum")),
        None => bail!("no cache folder: set XDG_CACHE_HOME or HOME to an absolute path"),
    }
}

/// Makes the folder `name` in `cache`, with what `fill` puts into it, and returns its path. It appears with all
/// of its content or not at all, whatever happens meanwhile. If it exists already, nothing is done; if another
/// process or thread is at it, this one waits.
///
/// # Errors
/// `fill`'s, or the file system's with the path; nothing is left behind.
pub fn publish(
    cache: &Path,
    name: &str,
    fill: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let target = cache.join(name);
    if target.is_dir() {
        return Ok(target);
    }
    fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let _lock = locked(&cache.join(".lock"))?;
    if target.is_dir() {
        return Ok(target);
    }
    let staging = Staging::new(cache.join(format!(".{name}.new")))?;
    fill(&staging.0)?;
    sync_folder(&staging.0)?;
    fs::rename(&staging.0, &target).with_context(|| format!("cannot make {}", target.display()))?;
    sync_folder(cache)?;
    Ok(target)
}

/// A file locked for this caller alone, until it is dropped.
fn locked(path: &Path) -> anyhow::Result<File> {
    let lock = || {
        let file = File::create(path)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    };
    lock().with_context(|| format!("cannot lock {}", path.display()))
}

/// Writes a file and makes it durable.
///
/// # Errors
/// The file system's, with the path.
pub fn write_durably(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    replace_file(path, content).with_context(|| format!("cannot write {}", path.display()))
}

fn sync_folder(path: &Path) -> anyhow::Result<()> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("cannot make {} durable", path.display()))
}

/// A folder that is removed unless it was renamed.
struct Staging(PathBuf);

impl Staging {
    fn new(path: PathBuf) -> anyhow::Result<Self> {
        // Left behind by a process that was killed; nobody else is at it under the lock.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn scratch(name: &str) -> PathBuf {
        let path = env::temp_dir().join(format!("fulcrum-cache-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn a_published_folder_is_whole_and_stays() {
        let cache = scratch("whole");
        let path = publish(&cache, "thing", |folder| {
            write_durably(&folder.join("a"), b"one")
        });
        let path = path.unwrap();
        assert_eq!(fs::read(path.join("a")).unwrap(), b"one");
        let again = publish(&cache, "thing", |_| bail!("must not run"));
        assert_eq!(again.unwrap(), path);
        fs::remove_dir_all(&cache).unwrap();
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let cache = scratch("failure");
        let error = publish(&cache, "thing", |folder| {
            write_durably(&folder.join("a"), b"one")?;
            bail!("no network")
        });
        assert_eq!(error.unwrap_err().to_string(), "no network");
        let left: Vec<_> = fs::read_dir(&cache)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, [".lock"]);
        fs::remove_dir_all(&cache).unwrap();
    }

    #[test]
    fn of_several_at_once_one_does_the_work() {
        let cache = scratch("race");
        let fills = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let path = publish(&cache, "thing", |folder| {
                        fills.fetch_add(1, Ordering::SeqCst);
                        write_durably(&folder.join("a"), b"one")
                    });
                    assert_eq!(fs::read(path.unwrap().join("a")).unwrap(), b"one");
                });
            }
        });
        assert_eq!(fills.load(Ordering::SeqCst), 1);
        fs::remove_dir_all(&cache).unwrap();
    }

    #[test]
    fn what_a_killed_process_left_is_cleared_away() {
        let cache = scratch("killed");
        fs::create_dir_all(cache.join(".thing.new")).unwrap();
        fs::write(cache.join(".thing.new/half"), b"ha").unwrap();
        let path = publish(&cache, "thing", |folder| {
            write_durably(&folder.join("a"), b"one")
        });
        assert_eq!(fs::read_dir(path.unwrap()).unwrap().count(), 1);
        fs::remove_dir_all(&cache).unwrap();
    }
}
