//! The measured grids, which are not part of the project.

use std::path::{Path, PathBuf};

/// The folder named by `FULCRUM_GRIDS`, else `../shared/data`. Without one the caller has to return: it
/// is told so on the terminal, and where `CI` is set it is a failure.
///
/// # Panics
/// There is no such folder, and `CI` is set.
#[must_use]
pub fn folder() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let folder = std::env::var_os("FULCRUM_GRIDS").map_or_else(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    let missing = format!(
        "{} is no folder: set FULCRUM_GRIDS to the grids",
        folder.display()
    );
    assert!(std::env::var_os("CI").is_none(), "{missing}");
    eprintln!("SKIPPED: {missing}");
    None
}
