//! `fulcrum import-nvpmodel`: NVIDIA's named modes, out of the user's own conf file, beside ours.

use super::show::{ModeJson, mhz};
use crate::nvpmodel::{Conf, NamedMode};
use crate::source::SourceArgument;
use crate::table::Table;
use crate::verdict::Verdict;
use crate::{captured_board, nvpmodel, plan_file, presets, progress};
use anyhow::{Context, bail};
use fulcrum_plan::durable::replace_file;
use fulcrum_plan::{Board, description};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Options of `fulcrum import-nvpmodel`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The conf file, such as /etc/nvpmodel.conf of the board
    conf: PathBuf,
    /// Board whose clocks the modes are read with: a name, or a description file (.toml)
    #[arg(long, value_name = "NAME|FILE", required_unless_present = "capture")]
    board: Option<String>,
    /// Folder that `fulcrumd capture` made on the board: its clocks instead, for a board without a description
    #[arg(long, value_name = "DIR", conflicts_with = "board")]
    capture: Option<PathBuf>,
    /// Write the description of the captured board here
    #[arg(long, value_name = "FILE.toml", requires = "capture")]
    out: Option<PathBuf>,
    /// Plan to compare the modes with: each is measured with the plan's workloads
    #[arg(
        long,
        value_name = "FILE",
        requires = "profiles",
        conflicts_with = "json"
    )]
    plan: Option<PathBuf>,
    /// Where the measurements come from, as of `fulcrum plan`: the plan's own board
    #[arg(long, value_name = "SOURCE", requires = "plan")]
    profiles: Option<SourceArgument>,
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
/// The file cannot be read or is no conf file (the message names the line), an unknown board, or a captured
/// folder that lacks what a description needs.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let path = arguments.conf.display().to_string();
    let text = std::fs::read_to_string(&arguments.conf).with_context(|| path.clone())?;
    let conf = nvpmodel::parse(&text).with_context(|| path.clone())?;
    let board = match (&arguments.board, &arguments.capture) {
        (Some(board), _) => plan_file::board(board)?,
        (None, Some(folder)) => captured(folder, &conf, arguments.out.as_deref())?,
        (None, None) => bail!("--board or --capture says whose clocks the modes are read with"),
    };
    let modes = conf.named_modes(&board);
    if let (Some(plan), Some(profiles)) = (&arguments.plan, &arguments.profiles) {
        return compare(plan, profiles, &board, &modes);
    }
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

/// The board of a captured folder, described in a file too if one is asked for.
fn captured(folder: &Path, conf: &Conf, out: Option<&Path>) -> anyhow::Result<Board> {
    let option = || format!("--capture {}", folder.display());
    let text = captured_board::describe(folder, conf).with_context(option)?;
    let board = description::parse(&text).with_context(option)?;
    if let Some(out) = out {
        replace_file(out, text.as_bytes()).with_context(|| format!("--out {}", out.display()))?;
        progress::say(&format!(
            "{}: the board `{}`; check its power_rails, and put it into plans/boards",
            out.display(),
            board.name
        ));
    }
    Ok(board)
}

/// Measures the modes, and says how much faster the plan is at no more power.
fn compare(
    plan: &Path,
    profiles: &SourceArgument,
    board: &Board,
    modes: &[NamedMode],
) -> anyhow::Result<Verdict> {
    let plan = plan_file::read_good(plan, std::slice::from_ref(board))?;
    let mut source = profiles.open(Some(board.name.as_str()), plan.provenance.seed)?;
    let compared = presets::compare(&plan, &mut *source, modes)?;
    let mut out = std::io::stdout().lock();
    write!(out, "{}", presets::table(&compared))?;
    for named in modes.iter().filter(|named| !named.masks.is_empty()) {
        writeln!(
            out,
            "{}: measured with the masks of the board as it is, not with those of the preset",
            named.name
        )?;
    }
    Ok(Verdict::Done)
}
