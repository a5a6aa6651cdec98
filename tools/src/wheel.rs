//! Pinned Python wheels, fetched with pip: the way to files that are published as Python packages.
//!
//! pip only downloads: nothing is installed into Python, and no code of a package runs. The wheel's version,
//! Python tag and platform are given, so that the same file comes whatever Python is installed here; its
//! SHA-256 is checked before a byte of it is used.

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// One file of one version of a package.
#[derive(Clone, Copy, Debug)]
pub struct Wheel {
    /// Name of the package.
    pub package: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Architecture as in platform tags and `std::env::consts::ARCH`: `x86_64`, `aarch64`.
    pub architecture: &'static str,
    /// SHA-256 of the wheel, in hexadecimal.
    pub sha256: &'static str,
}

/// The `manylinux` platforms that the pinned wheels are published for.
const PLATFORMS: [&str; 4] = ["2014", "_2_17", "_2_27", "_2_28"];

/// The command that makes pip available.
const GET_PIP: &str = "apt-get install python3-pip";

impl Wheel {
    /// The content of the wheel, checked; `folder` is where pip puts it meanwhile.
    ///
    /// # Errors
    /// Without Python or pip, with the command that installs them; when pip fails, with its own words; when
    /// the file is not the one that is pinned.
    pub fn fetch(&self, folder: &Path) -> anyhow::Result<Vec<u8>> {
        self.fetch_with(OsStr::new("python3"), folder)
    }

    fn fetch_with(&self, python: &OsStr, folder: &Path) -> anyhow::Result<Vec<u8>> {
        let requirement = format!("{}=={}", self.package, self.version);
        let mut command = Command::new(python);
        command
            .args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args(["--no-deps", "--only-binary=:all:"])
            .args([
                "--python-version",
                "3.11",
                "--implementation",
                "cp",
                "--abi",
                "cp311",
            ]);
        for platform in PLATFORMS {
            command.args([
                "--platform",
                &format!("manylinux{platform}_{}", self.architecture),
            ]);
        }
        command.arg("--dest").arg(folder).arg(&requirement);
        let output = match command.output() {
            Ok(output) => output,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("{requirement} is fetched with pip, and there is no python3; run `{GET_PIP}`")
            }
            Err(error) => return Err(error).context("cannot run python3"),
        };
        if !output.status.success() {
            bail!(pip_failure(&requirement, &output));
        }
        let path = the_wheel_in(folder)?;
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        self.verify(&content)?;
        Ok(content)
    }

    fn verify(&self, content: &[u8]) -> anyhow::Result<()> {
        let digest = Sha256::digest(content);
        let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(
            found == self.sha256,
            "{} {}: the file that was downloaded is not the one that is pinned (SHA-256 {found}, expected \
             {}); nothing was installed",
            self.package,
            self.version,
            self.sha256
        );
        Ok(())
    }
}

/// The content of the file `name` in a wheel, which is a zip archive.
///
/// # Errors
/// When the archive is damaged or has no such file.
pub fn member(wheel: &[u8], name: &str) -> anyhow::Result<Vec<u8>> {
    let read = || -> anyhow::Result<Vec<u8>> {
        let mut archive = zip::ZipArchive::new(Cursor::new(wheel))?;
        let mut content = Vec::new();
        archive.by_name(name)?.read_to_end(&mut content)?;
        Ok(content)
    };
    read().with_context(|| format!("cannot unpack {name} from the wheel"))
}

fn pip_failure(requirement: &str, output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("No module named pip") {
        return format!("{requirement} is fetched with pip, which python3 lacks; run `{GET_PIP}`");
    }
    let last = stderr.lines().rev().find(|line| !line.trim().is_empty());
    let reason = last.unwrap_or("it gave no reason");
    format!("pip could not download {requirement}: {reason}")
}

fn the_wheel_in(folder: &Path) -> anyhow::Result<PathBuf> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.with_context(|| format!("cannot read {}", folder.display()))?;
    let mut wheels = entries.iter().map(fs::DirEntry::path);
    wheels
        .find(|path| path.extension() == Some(OsStr::new("whl")))
        .context("pip reported success and left no wheel")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const WHEEL: Wheel = Wheel {
        package: "thing",
        version: "1.0",
        architecture: "x86_64",
        // Of the four bytes `data`.
        sha256: "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7",
    };

    /// Fetches with a `python3` that does what `script` says; `$DEST` is the folder given to pip.
    fn fetch_with_python(name: &str, script: &str) -> anyhow::Result<Vec<u8>> {
        let folder = std::env::temp_dir().join(format!("fulcrum-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("dest")).unwrap();
        let python = folder.join("python3");
        let dest = folder.join("dest");
        let text = format!("#!/bin/sh\nDEST='{}'\n{script}\n", dest.display());
        fs::write(&python, text).unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
        let result = WHEEL.fetch_with(python.as_os_str(), &dest);
        let _ = fs::remove_dir_all(&folder);
        result
    }

    #[test]
    fn the_pinned_file_is_accepted() {
        let script = "printf data > \"$DEST/thing-1.0.whl\"";
        assert_eq!(fetch_with_python("wheel-good", script).unwrap(), b"data");
    }

    #[test]
    fn another_file_is_refused() {
        let script = "printf other > \"$DEST/thing-1.0.whl\"";
        let error = fetch_with_python("wheel-other", script)
            .unwrap_err()
            .to_string();
        assert!(error.contains("not the one that is pinned"), "{error}");
    }

    #[test]
    fn without_python_or_pip_the_error_names_the_command() {
        let missing = OsStr::new("/no/such/python3");
        let error = WHEEL
            .fetch_with(missing, &std::env::temp_dir())
            .unwrap_err()
            .to_string();
        assert!(error.contains("`apt-get install python3-pip`"), "{error}");
        let script = "echo '/usr/bin/python3: No module named pip' >&2; exit 1";
        let error = fetch_with_python("wheel-no-pip", script)
            .unwrap_err()
            .to_string();
        assert!(error.contains("`apt-get install python3-pip`"), "{error}");
    }

    #[test]
    fn a_failure_of_pip_is_told_in_its_words() {
        let script = "echo 'ERROR: No matching distribution found' >&2; exit 1";
        let error = fetch_with_python("wheel-fail", script)
            .unwrap_err()
            .to_string();
        let expected = "pip could not download thing==1.0: ERROR: No matching distribution found";
        assert_eq!(error, expected);
    }

    #[test]
    fn success_without_a_file_is_an_error() {
        let error = fetch_with_python("wheel-none", "exit 0")
            .unwrap_err()
            .to_string();
        assert_eq!(error, "pip reported success and left no wheel");
    }
}
