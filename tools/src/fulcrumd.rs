//! Starting `fulcrumd` on this machine and following what it reports.
//!
//! The workstation never links the runtime; it starts it as a process, as a device would.

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const NAME: &str = "fulcrumd";

/// Finds `fulcrumd`: the path that was given; in a checkout that cargo runs, the one that cargo builds
/// from the same source (at once if it is fresh); beside this program; on the `PATH`.
///
/// # Errors
/// No such program, or the build failed; the message says how to get one.
pub fn find(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        ensure!(
            path.is_file(),
            "--fulcrumd {}: no such file",
            path.display()
        );
        return Ok(path.to_path_buf());
    }
    let own = env::current_exe().context("the path of this program")?;
    let beside = own.with_file_name(NAME);
    if let Some(cargo) = env::var_os("CARGO") {
        build(&cargo)?;
        ensure!(beside.is_file(), "cargo built no {}", beside.display());
        return Ok(beside);
    }
    if beside.is_file() {
        return Ok(beside);
    }
    let on_path = env::var_os("PATH").and_then(|path| {
        env::split_paths(&path)
            .map(|folder| folder.join(NAME))
            .find(|file| file.is_file())
    });
    on_path.with_context(|| {
        format!(
            "no {NAME} beside {} or on the PATH; give --fulcrumd PATH, or build it with \
             `cargo build --release -p fulcrum-runtime`",
            own.display()
        )
    })
}

fn build(cargo: &OsStr) -> anyhow::Result<()> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("Cargo.toml");
    let status = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--release",
            "-p",
            "fulcrum-runtime",
            "--bin",
            NAME,
        ])
        .arg("--manifest-path")
        .arg(&manifest)
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "cargo could not build {NAME}");
    Ok(())
}

/// A running `fulcrumd run --json`; killed if it is dropped before it ended.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log_path: PathBuf,
}

impl Running {
    /// Starts `program run --json` with further arguments; its log goes to a file.
    ///
    /// # Errors
    /// The program cannot be started, or the log cannot be created.
    pub fn start(program: &Path, arguments: &[&OsStr], log_path: &Path) -> anyhow::Result<Self> {
        let log =
            std::fs::File::create(log_path).with_context(|| log_path.display().to_string())?;
        let child = Command::new(program)
            .args(["run", "--json"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self {
            child,
            log_path: log_path.to_path_buf(),
        })
    }

    /// Hands every event to `on_event` as it comes, and returns the last of the kind `summary`.
    ///
    /// # Errors
    /// It ended without a summary; the message holds the end of its log.
    pub fn follow(mut self, mut on_event: impl FnMut(&Value)) -> anyhow::Result<Value> {
        let stdout = self.child.stdout.take().context("fulcrumd's output")?;
        let mut summary = None;
        for line in BufReader::new(stdout).lines() {
            let line = line.context("fulcrumd's output")?;
            let event: Value =
                serde_json::from_str(&line).with_context(|| format!("fulcrumd said `{line}`"))?;
            on_event(&event);
            if event["event"] == "summary" {
                summary = Some(event);
            }
        }
        let status = self.child.wait().context("waiting for fulcrumd")?;
        match summary {
            Some(summary) if status.success() => Ok(summary),
            _ => bail!("fulcrumd ended with {status}:\n{}", self.log_end()),
        }
    }

    fn log_end(&self) -> String {
        let log = std::fs::read_to_string(&self.log_path).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM would be kinder, but whoever drops it early is already failing; fulcrumd puts the
        // clocks back at its next start.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
