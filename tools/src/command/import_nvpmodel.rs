//! `fulcrum import-nvpmodel`: NVIDIA's named modes, out of the user's own conf file, beside ours.

use super::show::{ModeJson, mhz};
use crate::table::Table;
use crate::verdict::Verdict;
use crate::{nvpmodel, plan_file};
use anyhow::Context;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;

/// Options of `fulcrum import-nvpmodel`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The conf file, such as /etc/nvpmodel.conf of the board
    conf: PathBuf,
    /// Board whose clocks the modes are read with: a name, or a description file (.toml)
    #[arg(long, value_name = "NAME|FILE")]
    board: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct NamedModeJson {
    id: u32,
    name: String,
    default: bool,
    mode: ModeJson,
    masks: Vec<(String, u64)>,
    notes: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// The file cannot be read or is no conf file (the message names the line), or an unknown board.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let board = plan_file::board(&arguments.board)?;
    let path = arguments.conf.display().to_string();
    let text = std::fs::read_to_string(&arguments.conf).with_context(|| path.clone())?;
    let conf = nvpmodel::parse(&text).with_context(|| path.clone())?;
    let modes = conf.named_modes(&board);
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let modes = modes.into_iter().map(|named| NamedModeJson {
            id: named.id,
            default: named.id == conf.default_id,
            name: named.name,
            mode: named.mode.into(),
            masks: named.masks,
            notes: named.notes,
        });
        let modes: Vec<NamedModeJson> = modes.collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&modes)?)?;
        return Ok(Verdict::Done);
    }
    let mut table = Table::new(&[
        "id", "name", "cores", "CPU MHz", "GPU MHz", "EMC MHz", "notes",
    ]);
    for named in modes {
        let mode = named.mode;
        let masks = named
            .masks
            .iter()
            .map(|(name, value)| format!("{name} = {value}"));
        let default = (named.id == conf.default_id).then(|| "default".to_owned());
        let notes: Vec<String> = default
            .into_iter()
            .chain(masks)
            .chain(named.notes)
            .collect();
        let clocks = [mode.cpu_khz.0, mode.gpu_khz.0, mode.emc_khz.0].map(mhz);
        let mut row = vec![named.id.to_string(), named.name, mode.cores.to_string()];
        row.extend(clocks);
        row.push(notes.join("; "));
        table.push(row);
    }
    write!(out, "{table}")?;
    Ok(Verdict::Done)
}
