//! The two programs, built from this checkout by the cargo that runs the tests, and what they answer.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

/// `fulcrum` and `fulcrumd`: in `FULCRUM_PROGRAMS` if that is set, which a soak that outlives a checkout
/// needs; else built once per test program, at once if they are fresh.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    if let Some(folder) = std::env::var_os("FULCRUM_PROGRAMS") {
        return folder.into();
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "-p",
            "fulcrum",
            "-p",
            "fulcrum-runtime",
            "--bins",
        ])
        .args(["--message-format", "json", "--manifest-path"])
        .arg(manifest)
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo could not build the programs"
    );
    let stdout = String::from_utf8(output.stdout).expect("cargo's JSON is UTF-8");
    let executable = stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .find(|path| path.ends_with("fulcrumd"))
        .expect("cargo names what it built");
    executable.parent().expect("a folder").to_path_buf()
});

/// The workstation tool, ready for arguments.
#[must_use]
pub fn fulcrum() -> Command {
    Command::new(FOLDER.join("fulcrum"))
}

/// The runtime, ready for arguments.
#[must_use]
pub fn fulcrumd() -> Command {
    Command::new(FOLDER.join("fulcrumd"))
}

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Answer {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Answer {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn of(command: &mut Command) -> Self {
        command
            .stdin(Stdio::null())
            .output()
            .expect("the program starts")
            .into()
    }

    /// Both streams, for messages.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Its standard output, after checking that it ended with `code`.
    ///
    /// # Panics
    /// It ended otherwise.
    #[must_use]
    pub fn expect(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}", self.text());
        self.stdout
    }
}
