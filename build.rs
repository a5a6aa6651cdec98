//! Build script of the planner and of the runtime: checks what is shipped in `plans/` and embeds it.
//!
//! - `plans/boards/*.toml` are parsed by `fulcrum_plan::description` and written to
//!   `$OUT_DIR/boards.postcard`;
//! - every `plans/shipped/*.plan` is decoded, that is: passes every check, against those boards.
//!
//! There is no second parser: all of it is the plan crate. A file that fails stops the build with its
//! name and the reason.

use fulcrum_plan::{board, description, wire};
use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let crate_folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let plans = crate_folder
        .parent()
        .ok_or("the crate has no parent folder")?
        .join("plans");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut boards = Vec::new();
    for path in files(&plans.join("boards"), "toml")? {
        let text = fs::read_to_string(&path)?;
        let board = description::parse(&text).map_err(|e| in_file(&path, &e))?;
        if path
            .file_stem()
            .is_none_or(|stem| stem != board.name.as_str())
        {
            return Err(in_file(
                &path,
                &format!("is named after another board: {}", board.name),
            ));
        }
        boards.push(board);
    }
    let bytes = description::encode_all(&boards)?;
    // Read it back the way the crates will: otherwise they could not start.
    let read_back: board::Boards = board::decode_all(&bytes)?;
    if read_back.as_slice() != boards.as_slice() {
        return Err("the embedded boards read back differently".into());
    }
    fs::write(out.join("boards.postcard"), bytes)?;

    let mut shipped = String::from("&[\n");
    for path in files(&plans.join("shipped"), "plan")? {
        let table = wire::decode(&fs::read(&path)?, &boards).map_err(|e| in_file(&path, &e))?;
        let name = path.file_stem().unwrap_or_default().display();
        writeln!(
            shipped,
            "    ({name:?}, include_bytes!({path:?})), // {}",
            table.board
        )?;
    }
    shipped.push_str("]\n");
    fs::write(out.join("shipped.rs"), shipped)?;
    Ok(())
}

/// The files of a folder with an extension, sorted, so that every build sees the same order. The
/// folder itself is watched: a new file runs the script again.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| in_file(folder, &error))? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn in_file(path: &Path, reason: &dyn std::fmt::Display) -> Box<dyn Error> {
    format!("{}: {reason}", path.display()).into()
}
