//! Reading and writing plan files on the workstation.

use anyhow::{Context, anyhow};
use fulcrum_plan::durable::{check_replaceable, read_limited, replace_file};
use fulcrum_plan::wire::{self, DecodeError};
use fulcrum_plan::{Board, PlanTable, description};
use fulcrum_planner::boards;
use std::path::Path;

/// The board of `--board`: a known name, or a description file (a path that ends in `.toml`).
///
/// # Errors
/// An unknown name (the message lists the known ones), a file that cannot be read or is no description.
pub fn board(name_or_path: &str) -> anyhow::Result<Board> {
    let extension = Path::new(name_or_path).extension();
    if extension.is_none_or(|extension| extension != "toml") {
        return Ok(boards::named(name_or_path)?.clone());
    }
    let text =
        std::fs::read_to_string(name_or_path).with_context(|| format!("--board {name_or_path}"))?;
    description::parse(&text).with_context(|| format!("--board {name_or_path}"))
}

/// The boards that a plan may be for: the one that was named, or all that are known.
///
/// # Errors
/// As [`board`].
pub fn candidates(named: Option<&str>) -> anyhow::Result<Vec<Board>> {
    match named {
        Some(name) => Ok(vec![board(name)?]),
        None => Ok(boards::all().to_vec()),
    }
}

/// Reads the bytes of a plan file.
///
/// # Errors
/// The file cannot be read; the message names it.
pub fn read_bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    read_limited(path, wire::LEN_MAX).with_context(|| path.display().to_string())
}

/// Reads and decodes a plan file for one of `boards`; the inner error is what is wrong with the plan.
///
/// # Errors
/// The file cannot be read; the message names it.
pub fn read(path: &Path, boards: &[Board]) -> anyhow::Result<Result<PlanTable, DecodeError>> {
    Ok(wire::decode(&read_bytes(path)?, boards))
}

/// Reads a plan file that has to be good.
///
/// # Errors
/// The file cannot be read, or is no good plan; the message names it.
pub fn read_good(path: &Path, boards: &[Board]) -> anyhow::Result<PlanTable> {
    read(path, boards)?.with_context(|| path.display().to_string())
}

/// Whether a file can be written, before work whose result would be lost.
///
/// # Errors
/// It cannot; the message names the option and the path.
pub fn check_writable(option: &str, path: &Path) -> anyhow::Result<()> {
    check_replaceable(path).with_context(|| format!("{option} {}", path.display()))
}

/// Writes a plan file, whole or not at all, and returns its length in bytes.
///
/// # Errors
/// A plan that breaks a rule, or a file that cannot be written.
pub fn write(path: &Path, plan: &PlanTable, board: &Board) -> anyhow::Result<usize> {
    let mut buffer = vec![0; wire::LEN_MAX];
    let bytes = wire::encode(plan, board, &mut buffer)
        .map_err(|error| anyhow!("the plan cannot be written: {error}"))?;
    replace_file(path, bytes).with_context(|| format!("--out {}", path.display()))?;
    Ok(bytes.len())
}
