//! Where a plan is flashed to: a folder, or a host through ssh.
//!
//! Through ssh, the device verifies the plan with its own decoder and stores it (`fulcrumd accept`); this
//! side sends the bytes and reads the answer. A device that is cut off in the middle keeps the plan it has.

use anyhow::{Context, anyhow, bail};
use fulcrum_plan::Board;
use fulcrum_plan::answer::Answer;
use fulcrum_plan::store::{Flashed, Slot, Store, StoreError};
use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

/// A device that has not answered after this is given up. Connecting may take 10 s of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The argument of `--to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A device folder on this machine.
    Folder(PathBuf),
    /// A host, and the device folder on it if it is not the usual one.
    Ssh {
        /// As ssh takes it: `USER@HOST`, or a name of its configuration.
        destination: String,
        /// The folder.
        folder: Option<String>,
    },
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let Some(rest) = text.strip_prefix("ssh:") else {
            return match text {
                "" => bail!("an empty name; allowed: DIR, ssh:USER@HOST, ssh:USER@HOST:DIR"),
                folder => Ok(Self::Folder(folder.into())),
            };
        };
        // An IPv6 address stands in brackets.
        let host_end = rest.find(']').map_or(0, |bracket| bracket + 1);
        let (destination, folder) = match rest[host_end..].find(':') {
            Some(colon) => (
                &rest[..host_end + colon],
                Some(&rest[host_end + colon + 1..]),
            ),
            None => (rest, None),
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "@.-_[]:%".contains(c);
        // What begins with a dash would be an option of ssh.
        if destination.is_empty()
            || destination.starts_with('-')
            || !destination.chars().all(is_plain)
        {
            bail!("`{text}` names no host; allowed: ssh:USER@HOST, ssh:USER@HOST:DIR");
        }
        if folder == Some("") {
            bail!("`{text}`: an empty folder; leave out the last colon");
        }
        Ok(Self::Ssh {
            destination: destination.replace(['[', ']'], ""),
            folder: folder.map(str::to_owned),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Ssh {
                destination,
                folder,
            } => {
                write!(f, "ssh:{destination}")?;
                match folder {
                    Some(folder) => write!(f, ":{folder}"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// How hosts are reached.
#[derive(Clone, Debug, clap::Args)]
pub struct Reach {
    /// Program that reaches a host, with options, such as "ssh -p 2222 -i KEY"
    #[arg(long, value_name = "COMMAND", default_value = "ssh")]
    ssh: String,
    /// How a host starts fulcrumd, such as "sudo fulcrumd"
    #[arg(long, value_name = "COMMAND", default_value = "fulcrumd")]
    fulcrumd: String,
}

/// What became of a plan.
#[derive(Debug)]
pub enum Outcome {
    /// It is now in this slot, on trial.
    Switched(Slot),
    /// These very bytes were in use there already.
    Already(Slot),
    /// The device does not take it.
    Refused(anyhow::Error),
    /// It did not get there, or could not be stored.
    Unreachable(anyhow::Error),
}

impl Target {
    /// Puts a plan there. `boards` are those that a plan in a folder may be for.
    #[must_use]
    pub fn flash(&self, bytes: &[u8], boards: &[Board], reach: &Reach) -> Outcome {
        match self {
            Self::Folder(folder) => into_folder(folder, bytes, boards),
            Self::Ssh {
                destination,
                folder,
            } => through_ssh(destination, folder.as_deref(), bytes, reach)
                .unwrap_or_else(Outcome::Unreachable),
        }
    }
}

fn into_folder(folder: &Path, bytes: &[u8], boards: &[Board]) -> Outcome {
    match Store::new(folder).flash(bytes, boards) {
        Ok(Flashed::Switched(slot)) => Outcome::Switched(slot),
        Ok(Flashed::Already(slot)) => Outcome::Already(slot),
        Err(StoreError::Plan(_, reason)) => Outcome::Refused(reason.into()),
        Err(error) => Outcome::Unreachable(error.into()),
    }
}

fn through_ssh(
    destination: &str,
    folder: Option<&str>,
    bytes: &[u8],
    reach: &Reach,
) -> anyhow::Result<Outcome> {
    let mut remote = format!("{} accept", reach.fulcrumd);
    if let Some(folder) = folder {
        remote += &format!(" --plan-dir {}", quoted(folder));
    }
    let child = Command::new("sh")
        // The options may hold quoted words: only a shell knows where they end.
        .args(["-c", &format!("exec {} \"$@\"", reach.ssh), "ssh"])
        .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"])
        .args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"])
        .args(["--", destination, &remote])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("sh cannot be started")?;
    let (status, stdout, stderr) = converse(child, bytes)?;
    match Answer::find(&stdout) {
        Some(Answer::Switched(slot)) => Ok(Outcome::Switched(slot)),
        Some(Answer::Already(slot)) => Ok(Outcome::Already(slot)),
        Some(Answer::Refused(reason)) => Ok(Outcome::Refused(anyhow!(reason))),
        Some(Answer::Failed(reason)) => Err(anyhow!(reason)),
        None => {
            let words = stderr.lines().last().unwrap_or("it said nothing").trim();
            bail!("no answer ({status}): {words}")
        }
    }
}

/// Single quotes for the shell of the host.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Sends `bytes` and reads both outputs to their ends.
fn converse(mut child: Child, bytes: &[u8]) -> anyhow::Result<(ExitStatus, String, String)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        scope.spawn(move || {
            // A device that refuses early reads no further: its answer says why.
            let _ = stdin.map(|mut stdin| stdin.write_all(bytes));
        });
        let stdout = scope.spawn(move || text_of(stdout));
        let stderr = scope.spawn(move || text_of(stderr));
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() >= deadline {
                // It may have ended just now.
                let _ = child.kill();
                child.wait()?;
                bail!("no answer within {} s", PATIENCE.as_secs());
            }
            thread::sleep(Duration::from_millis(10));
        };
        let joined = (stdout.join(), stderr.join());
        Ok((
            status,
            joined.0.unwrap_or_default(),
            joined.1.unwrap_or_default(),
        ))
    })
}

/// At most as much as answers and complaints need.
fn text_of(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // What was read before a failure is what there is to say.
        let _ = stream.take(64 * 1024).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ssh(destination: &str, folder: Option<&str>) -> Target {
        Target::Ssh {
            destination: destination.to_owned(),
            folder: folder.map(str::to_owned),
        }
    }

    #[test]
    fn targets_are_folders_or_hosts() {
        for (text, target) in [
            ("out/dev", Target::Folder("out/dev".into())),
            ("ssh:robot", ssh("robot", None)),
            (
                "ssh:ana@robot-1.local:/data/plans",
                ssh("ana@robot-1.local", Some("/data/plans")),
            ),
            (
                "ssh:ana@[fe80::1%eth0]:plans",
                ssh("ana@fe80::1%eth0", Some("plans")),
            ),
            ("ssh:[::1]", ssh("::1", None)),
        ] {
            assert_eq!(text.parse::<Target>().unwrap(), target, "{text}");
        }
    }

    #[test]
    fn what_ssh_would_take_for_an_option_or_a_shell_for_a_command_is_refused() {
        for text in [
            "",
            "ssh:",
            "ssh:-oProxyCommand=x",
            "ssh:a b",
            "ssh:$(x)",
            "ssh:host:",
            "ssh::d",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
        assert_eq!(quoted("a'b $c"), r"'a'\''b $c'");
    }
}
