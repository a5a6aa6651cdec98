//! A fleet: many hosts in one file, flashed in parallel.
//!
//! ```toml
//! [[host]]
//! name = "robot-1"
//! to = "ssh:root@robot-1.local"
//! board = "orin-agx"   # optional: refuse a plan for another board before connecting
//! ```

use crate::progress;
use crate::table::Table;
use crate::target::{Outcome, Reach, Target};
use anyhow::{Context, anyhow, bail};
use fulcrum_plan::Board;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inventory {
    #[serde(default)]
    host: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    to: String,
    board: Option<String>,
}

/// One host of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name in tables.
    pub name: String,
    /// Where it is.
    pub target: Target,
    /// The board it is, if the file says so.
    pub board: Option<String>,
}

/// Reads a fleet file.
///
/// # Errors
/// It cannot be read, is no such file, or names no host or one twice; the message says where.
pub fn read(path: &Path) -> anyhow::Result<Vec<Host>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("--inventory {name}"))?;
    parse(&text).with_context(|| format!("--inventory {name}"))
}

fn parse(text: &str) -> anyhow::Result<Vec<Host>> {
    let inventory: Inventory = toml::from_str(text)?;
    if inventory.host.is_empty() {
        bail!("no hosts; each needs [[host]], name = \"…\", to = \"ssh:USER@HOST\"");
    }
    let mut names = BTreeSet::new();
    let hosts = inventory.host.into_iter().map(|entry| {
        if !names.insert(entry.name.clone()) {
            bail!("host `{}` stands there twice", entry.name);
        }
        let target = entry.to.parse();
        Ok(Host {
            target: target.with_context(|| format!("host `{}`", entry.name))?,
            name: entry.name,
            board: entry.board,
        })
    });
    hosts.collect()
}

/// A plan to be flashed to hosts.
#[derive(Clone, Copy, Debug)]
pub struct Cargo<'a> {
    /// The plan.
    pub bytes: &'a [u8],
    /// The board it is for.
    pub board: &'a str,
    /// Boards that a plan in a folder may be for.
    pub boards: &'a [Board],
}

/// Flashes every host, at most `parallel` at a time; outcomes in the order of the hosts.
#[must_use]
pub fn flash(hosts: &[Host], cargo: Cargo<'_>, reach: &Reach, parallel: usize) -> Vec<Outcome> {
    let bar = progress::bar("flashing", hosts.len() as u64);
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<Option<Outcome>>> = Mutex::new(hosts.iter().map(|_| None).collect());
    thread::scope(|scope| {
        for _ in 0..parallel.min(hosts.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(host) = hosts.get(index) else {
                        return;
                    };
                    let outcome = flash_one(host, cargo, reach);
                    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                    outcomes[index] = Some(outcome);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let outcomes = outcomes
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    // Every index was taken, and a thread that panicked has ended the scope with a panic.
    outcomes.into_iter().flatten().collect()
}

fn flash_one(host: &Host, cargo: Cargo<'_>, reach: &Reach) -> Outcome {
    match &host.board {
        Some(board) if board != cargo.board => Outcome::Refused(anyhow!(
            "the plan is for the board `{}`, the inventory says `{board}`",
            cargo.board
        )),
        _ => host.target.flash(cargo.bytes, cargo.boards, reach),
    }
}

/// The outcomes, one line for each host.
#[must_use]
pub fn table(hosts: &[Host], outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(&["host", "to", "outcome", "detail"]);
    for (host, outcome) in hosts.iter().zip(outcomes) {
        let (word, detail) = match outcome {
            Outcome::Switched(slot) => ("flashed", format!("slot {slot}, on trial")),
            Outcome::Already(slot) => ("unchanged", format!("slot {slot} holds these very bytes")),
            Outcome::Refused(reason) => ("refused", format!("{reason:#}")),
            Outcome::Unreachable(reason) => ("unreachable", format!("{reason:#}")),
        };
        table.push(vec![
            host.name.clone(),
            host.target.to_string(),
            word.to_owned(),
            detail,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_file_is_read() {
        let text = "[[host]]\nname = \"a\"\nto = \"ssh:root@a\"\nboard = \"orin-agx\"\n\
                    [[host]]\nname = \"b\"\nto = \"dev/b\"\n";
        let hosts = parse(text).unwrap();
        assert_eq!(hosts.len(), 2);
        assert_eq!(hosts[0].board.as_deref(), Some("orin-agx"));
        assert_eq!(hosts[1].target, Target::Folder("dev/b".into()));
    }

    #[test]
    fn a_bad_fleet_file_says_what_is_bad() {
        let message = |text: &str| format!("{:#}", parse(text).unwrap_err());
        assert!(message("").contains("[[host]]"));
        let twice = "[[host]]\nname = \"a\"\nto = \"x\"\n[[host]]\nname = \"a\"\nto = \"y\"\n";
        assert!(message(twice).contains("`a` stands there twice"));
        assert!(message("[[host]]\nname = \"a\"\n").contains("to"));
        let unknown = "[[host]]\nname = \"a\"\nto = \"x\"\nuser = \"u\"\n";
        assert!(message(unknown).contains("user"));
        let bad = message("[[host]]\nname = \"a\"\nto = \"ssh:\"\n");
        assert!(
            bad.contains("host `a`") && bad.contains("ssh:USER@HOST"),
            "{bad}"
        );
    }
}
