//! `fulcrum engine install`: the pinned ONNX Runtime library, from its Python wheel into fulcrum's cache.

use crate::wheel::{self, Wheel};
use crate::{cache, progress};
use anyhow::Context;
use std::env::consts::ARCH;
use std::path::{Path, PathBuf};

/// The version that is installed and that the tests run on. Newer aarch64 wheels crash under `qemu-user`,
/// older ones before 1.19 do not hold the library.
pub const VERSION: &str = "1.23.2";

const WHEELS: [Wheel; 2] = [
    Wheel {
        package: "onnxruntime",
        version: VERSION,
        architecture: "x86_64",
        sha256: "da44b99206e77734c5819aa2142c69e64f3b46edc3bd314f6a45a932defc0b3e",
    },
    Wheel {
        package: "onnxruntime",
        version: VERSION,
        architecture: "aarch64",
        sha256: "bbfd2fca76c855317568c1b36a885ddea2272c13cb0e395002c402f2360429a6",
    },
];

/// Makes sure that the library is in fulcrum's cache, and returns its path: `fulcrumd` finds it there. Does
/// nothing when it is there already; otherwise downloads about 17 MB, with a sign of life on a terminal.
///
/// # Errors
/// On an architecture without a pinned wheel, and as [`Wheel::fetch`] and [`cache::publish`].
pub fn install() -> anyhow::Result<PathBuf> {
    install_into(&cache::folder()?)
}

fn install_into(cache: &Path) -> anyhow::Result<PathBuf> {
    let wheel = WHEELS.iter().find(|wheel| wheel.architecture == ARCH).with_context(|| {
        format!(
            "ONNX Runtime {VERSION} is pinned for x86_64 and aarch64, this is {ARCH}: build the library and \
             name it with --onnxruntime or ORT_DYLIB_PATH"
        )
    })?;
    let file = format!("libonnxruntime.so.{VERSION}");
    let folder = cache::publish(cache, &format!("onnxruntime-{VERSION}"), |staging| {
        let spinner = progress::spinner(&format!("downloading ONNX Runtime {VERSION}"));
        let content = wheel.fetch(staging).with_context(|| {
            format!(
                "cannot fetch ONNX Runtime {VERSION} (one that is there already can be named with \
                 --onnxruntime or ORT_DYLIB_PATH)"
            )
        })?;
        let library = wheel::member(&content, &format!("onnxruntime/capi/{file}"))?;
        cache::write_durably(&staging.join(&file), &library)?;
        spinner.finish_and_clear();
        Ok(())
    })?;
    Ok(folder.join(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_installed_library_is_not_fetched_again() {
        let cache = std::env::temp_dir().join(format!("fulcrum-engine-{}", std::process::id()));
        let library = cache.join(format!("onnxruntime-{VERSION}/libonnxruntime.so.{VERSION}"));
        fs::create_dir_all(library.parent().unwrap()).unwrap();
        fs::write(&library, b"the library").unwrap();
        assert_eq!(install_into(&cache).unwrap(), library);
        assert_eq!(fs::read(&library).unwrap(), b"the library");
        fs::remove_dir_all(&cache).unwrap();
    }
}
