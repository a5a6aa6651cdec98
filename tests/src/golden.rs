//! Golden files: text under `tests/fixtures/golden` that a person can judge in a diff.
//!
//! `FULCRUM_BLESS=1 cargo test` writes them anew.

use std::fs;
use std::path::Path;

/// Compares `found` with the golden file of that name.
///
/// # Panics
/// They differ, or there is no such file.
pub fn assert_golden(name: &str, found: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden");
    let path = folder.join(name);
    if std::env::var_os("FULCRUM_BLESS").is_some() {
        fs::create_dir_all(&folder).expect("the golden folder");
        fs::write(&path, found).expect("a golden file");
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    for (number, (expected, found)) in (1..).zip(expected.lines().zip(found.lines())) {
        assert_eq!(
            expected, found,
            "{name}, line {number}; FULCRUM_BLESS=1 accepts"
        );
    }
    assert_eq!(
        expected.lines().count(),
        found.lines().count(),
        "{name}: number of lines; FULCRUM_BLESS=1 accepts"
    );
}
