//! `fulcrum show`: every mode of a plan with its cells.

use crate::plan_file;
use crate::table::Table;
use crate::verdict::Verdict;
use fulcrum_plan::{Cell, GpuMasks, PlanTable, PowerMode, Row};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;

/// Options of `fulcrum show`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The plan file
    plan: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Board description file (.toml), for a plan of a board that this build does not know
    #[arg(long, value_name = "NAME|FILE")]
    board: Option<String>,
}

/// A mode as JSON.
#[derive(Debug, Serialize)]
pub(super) struct ModeJson {
    cores: u8,
    cpu_khz: u32,
    gpu_khz: u32,
    emc_khz: u32,
}

impl From<PowerMode> for ModeJson {
    fn from(mode: PowerMode) -> Self {
        Self {
            cores: mode.cores,
            cpu_khz: mode.cpu_khz.0,
            gpu_khz: mode.gpu_khz.0,
            emc_khz: mode.emc_khz.0,
        }
    }
}

#[derive(Debug, Serialize)]
struct TrainCellJson {
    time_us: u32,
    power_mw: u32,
}

#[derive(Debug, Serialize)]
struct InferCellJson {
    batch: u16,
    time_us: u32,
    power_mw: u32,
}

#[derive(Debug, Serialize)]
struct RowJson {
    #[serde(flatten)]
    mode: ModeJson,
    train: Option<TrainCellJson>,
    infer: Vec<Vec<InferCellJson>>,
}

#[derive(Debug, Serialize)]
struct ProvenanceJson<'a> {
    strategy: &'a str,
    seed: u64,
    profiles: u32,
    inputs_crc: u32,
    gpu_masks: GpuMasks,
}

#[derive(Debug, Serialize)]
struct PlanJson<'a> {
    board: &'a str,
    provenance: ProvenanceJson<'a>,
    train: Option<&'a str>,
    train_batch: Option<u16>,
    infer: Vec<&'a str>,
    modes: Vec<RowJson>,
}

impl<'a> PlanJson<'a> {
    fn new(plan: &'a PlanTable) -> Self {
        let train = plan.train.as_ref();
        Self {
            board: &plan.board,
            provenance: ProvenanceJson {
                strategy: &plan.provenance.strategy,
                seed: plan.provenance.seed,
                profiles: plan.provenance.profiles,
                inputs_crc: plan.provenance.inputs_crc,
                gpu_masks: plan.provenance.gpu_masks,
            },
            train: train.map(|workload| workload.name.as_str()),
            train_batch: train.and_then(|workload| workload.batches.first()).copied(),
            infer: plan
                .infer
                .iter()
                .map(|workload| workload.name.as_str())
                .collect(),
            modes: plan.rows.iter().map(|row| row_json(plan, row)).collect(),
        }
    }
}

fn row_json(plan: &PlanTable, row: &Row) -> RowJson {
    let train = plan.slot_train().and_then(|slot| row.cell(slot));
    let infer = (0..plan.infer.len()).map(|workload| {
        let cells = plan.slots_infer(workload).filter_map(|(slot, batch)| {
            let Cell { time_us, power_mw } = row.cell(slot)?;
            Some(InferCellJson {
                batch,
                time_us: time_us.0,
                power_mw: power_mw.0,
            })
        });
        cells.collect()
    });
    RowJson {
        mode: row.mode.into(),
        train: train.map(|cell| TrainCellJson {
            time_us: cell.time_us.0,
            power_mw: cell.power_mw.0,
        }),
        infer: infer.collect(),
    }
}

/// MHz with as many decimals as the clock needs.
pub(super) fn mhz(khz: u32) -> String {
    let text = format!("{:.3}", f64::from(khz) / 1e3);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A plan as an aligned table: milliseconds and watts, a dash where nothing was measured.
#[must_use]
pub fn table(plan: &PlanTable) -> Table {
    let mut header: Vec<String> = ["cores", "CPU MHz", "GPU MHz", "EMC MHz"]
        .map(String::from)
        .to_vec();
    if let Some(train) = &plan.train {
        header.extend([format!("{} ms", train.name), "W".into()]);
    }
    for (index, workload) in plan.infer.iter().enumerate() {
        for (_, batch) in plan.slots_infer(index) {
            header.extend([format!("{} b{batch} ms", workload.name), "W".into()]);
        }
    }
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = Table::new(&header);
    for row in &plan.rows {
        let mode = &row.mode;
        let mut cells = vec![mode.cores.to_string()];
        cells.extend([mode.cpu_khz.0, mode.gpu_khz.0, mode.emc_khz.0].map(mhz));
        for slot in 0..plan.slot_count() {
            cells.extend(match row.cell(slot) {
                Some(cell) => [
                    format!("{:.2}", f64::from(cell.time_us.0) / 1e3),
                    format!("{:.2}", f64::from(cell.power_mw.0) / 1e3),
                ],
                None => ["-".into(), "-".into()],
            });
        }
        table.push(cells);
    }
    table
}

/// Runs the command.
///
/// # Errors
/// The file cannot be read or is no good plan.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let boards = plan_file::candidates(arguments.board.as_deref())?;
    let plan = plan_file::read_good(&arguments.plan, &boards)?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(&PlanJson::new(&plan))?
        )?;
        return Ok(Verdict::Done);
    }
    let from = &plan.provenance;
    writeln!(
        out,
        "{}: {} modes, found by {} with {} profiles, seed {} (inputs {:08x})",
        plan.board,
        plan.rows.len(),
        from.strategy,
        from.profiles,
        from.seed,
        from.inputs_crc
    )?;
    if from.gpu_masks != GpuMasks::default() {
        writeln!(out, "measured on a GPU with {}", from.gpu_masks)?;
    }
    write!(out, "{}", table(&plan))?;
    Ok(Verdict::Done)
}
