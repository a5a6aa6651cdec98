//! A folder of a test's own.

use std::path::{Path, PathBuf};

/// A folder that is empty at first and is left behind for whoever looks into a failed test.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A folder below cargo's folder for tests.
    ///
    /// # Panics
    /// It cannot be created.
    #[must_use]
    pub fn new(tests_folder: &str, name: &str) -> Self {
        let path = Path::new(tests_folder).join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("cargo's folder for tests can be written");
        Self(path)
    }

    /// A path inside.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}
