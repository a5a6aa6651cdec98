//! `fulcrum plan`: profiles modes and writes the plan.

use super::show::mhz;
use crate::plan_file;
use crate::progress;
use crate::source::SourceArgument;
use crate::verdict::Verdict;
use anyhow::{Context, bail};
use fulcrum_plan::{Board, PlanTable};
use fulcrum_planner::margin::Margin;
use fulcrum_planner::plan::{self, Ending, PlanRequest, SearchReport};
use fulcrum_planner::prior::Prior;
use fulcrum_planner::profile::ProfileSource;
use fulcrum_planner::profile::faults::{Faults, Unreliable};
use fulcrum_planner::profile::journal::Journaled;
use fulcrum_planner::search::Strategy;
use fulcrum_planner::space::Grid;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Options of `fulcrum plan`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Board to plan for: a name, or a description such as my-board.toml
    #[arg(long, value_name = "NAME|FILE")]
    board: String,
    /// Where measurements come from: replay:DIR, synthetic:BOARD, or exec:COMMAND, a command that ends in
    /// `fulcrumd profile …`, such as "exec:ssh robot fulcrumd profile …"
    #[arg(long, value_name = "SOURCE")]
    profiles: SourceArgument,
    /// Training workload
    #[arg(long, value_name = "NAME")]
    train: Option<String>,
    /// Inference workload; give two to plan an urgent and a non-urgent one, the urgent one first
    #[arg(long, value_name = "NAME")]
    infer: Vec<String>,
    /// How to search, such as als or als:50
    #[arg(long, value_name = "STRATEGY", default_value = "als")]
    strategy: Strategy,
    /// Most profiles to pay: runs of one mode, workload and batch size [default for als: 50 for
    /// training, 95 for each inference workload]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    max_profiles: Option<u32>,
    /// Seed of everything random
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        allow_negative_numbers = true
    )]
    seed: u64,
    /// Candidate modes: the 441-mode subset, or all
    #[arg(long, value_name = "441|all", default_value = "441")]
    grid: Grid,
    /// Keep every profile in this file; a killed search that is started again with it pays none twice
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Journal of an earlier plan of the same board, of whatever workloads: what it measured sharpens what
    /// is believed of these; may be given several times
    #[arg(long, value_name = "FILE")]
    prior: Vec<PathBuf>,
    /// Count every measured time and power as this much larger in the plan, so that noise does not break
    /// a budget: 1 is right for what docs/evaluation.md measured
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    margin: Margin,
    /// Let a replayed or simulated board fail, such as time=0.75,power=0.5,stuck=4,over-current=1,lost=60:
    /// noise (deviation in %), a stuck GPU clock and over-current (% of the profiles), a board that is
    /// lost after so many profiles
    #[arg(long, value_name = "LIST")]
    faults: Option<Faults>,
    /// The plan file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Arguments {
    fn request(&self, prior: Prior) -> PlanRequest {
        let needs_limit = self.strategy.kind.has_limit() && self.strategy.limit.is_none();
        PlanRequest {
            train: self.train.clone(),
            infer: self.infer.clone(),
            strategy: self.strategy,
            max_profiles: self
                .max_profiles
                .or_else(|| needs_limit.then(|| self.usual_limit())),
            seed: self.seed,
            grid: self.grid,
            demand: None,
            prior,
            margin: self.margin,
        }
    }

    fn source(&self, board: &str) -> anyhow::Result<Box<dyn ProfileSource>> {
        if self.faults.is_some() && matches!(self.profiles, SourceArgument::Exec(_)) {
            bail!(
                "--faults: a real board has its own; allowed with replay:DIR and synthetic:BOARD"
            );
        }
        let source = self.profiles.open(Some(board), self.seed)?;
        let seed = self.seed;
        Ok(match self.faults {
            Some(faults) => Box::new(Unreliable::new(source, Faults { seed, ..faults })),
            None => source,
        })
    }

    /// What the paper spends: 50 for training, 95 more for an inference workload (fulcrum.md section 4).
    fn usual_limit(&self) -> u32 {
        let train = if self.train.is_some() { 50 } else { 0 };
        let infer = u32::try_from(self.infer.len()).unwrap_or(u32::MAX);
        infer.saturating_mul(95).saturating_add(train)
    }
}

/// Searches with a progress bar on the terminal.
///
/// # Errors
/// As [`plan::make`].
pub fn search(
    source: &mut dyn ProfileSource,
    board: &Board,
    request: &PlanRequest,
) -> anyhow::Result<(PlanTable, SearchReport)> {
    let bar = progress::bar("profiling", u64::from(request.max_profiles.unwrap_or(0)));
    let made = plan::make(source, board, request, &mut |paid, limit, run, _| {
        if limit < usize::MAX {
            bar.set_length(limit as u64);
        }
        bar.set_message(format!("{} b{}", run.workload, run.batch));
        bar.set_position(paid as u64);
    });
    bar.finish_and_clear();
    Ok(made?)
}

fn search_journaled(
    source: Box<dyn ProfileSource>,
    board: &Board,
    request: &PlanRequest,
    journal: Option<&Path>,
) -> anyhow::Result<(PlanTable, SearchReport)> {
    let Some(path) = journal else {
        let mut source = source;
        return search(&mut *source, board, request);
    };
    let header = plan::journal_header(&*source, request)?;
    let mut journaled = Journaled::open(source, path, &header).context("--journal")?;
    let known = journaled.profiles_left();
    if known > 0 {
        progress::say(&format!(
            "resuming: {known} profiles of {} are paid already",
            path.display()
        ));
    }
    search(&mut journaled, board, request)
}

/// Says what a search spent and found.
///
/// # Errors
/// Whatever writing to `out` gives.
pub fn write_report(
    out: &mut impl Write,
    table: &PlanTable,
    report: &SearchReport,
) -> io::Result<()> {
    writeln!(
        out,
        "{} profiles in {} of {} candidate modes; {} worth keeping",
        report.profiles,
        report.modes,
        report.candidates,
        match table.rows.len() {
            1 => "1 mode is".to_owned(),
            rows => format!("{rows} modes are"),
        }
    )?;
    for discarded in &report.discarded {
        writeln!(
            out,
            "not trusted ({:?}): {}",
            discarded.fault, discarded.run
        )?;
    }
    match (&report.ending, report.limit) {
        (Ending::Lost(reason), _) => {
            writeln!(
                out,
                "the board was lost ({reason}): the plan holds what was measured before"
            )?;
        }
        (Ending::Finished, Some(limit)) if report.profiles < limit => writeln!(
            out,
            "ended early, no gain was left: {} profiles unspent",
            limit.saturating_sub(report.profiles)
        )?,
        _ => {}
    }
    let powers = table
        .rows
        .iter()
        .flat_map(|row| row.cells.iter().flatten())
        .map(|c| c.power_mw.0);
    if let (Some(low), Some(high)) = (powers.clone().min(), powers.max()) {
        let gpu = table.rows.iter().map(|row| row.mode.gpu_khz.0);
        writeln!(
            out,
            "from {:.1} W to {:.1} W, GPU {} to {} MHz",
            f64::from(low) / 1e3,
            f64::from(high) / 1e3,
            mhz(gpu.clone().min().unwrap_or(0)),
            mhz(gpu.max().unwrap_or(0))
        )?;
    }
    Ok(())
}

/// Runs the command.
///
/// # Errors
/// An unknown board, source or workload; a journal or a plan that cannot be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let board = plan_file::board(&arguments.board)?;
    if arguments.strategy.kind.is_for_one_demand() {
        bail!(
            "--strategy {}: it searches for one power, latency and rate, and a plan answers all of \
             them; use als, rnd or exhaustive, or compare it with `fulcrum evaluate`",
            arguments.strategy.kind.name()
        );
    }
    plan_file::check_writable("--out", &arguments.out)?;
    let source = arguments.source(board.name.as_str())?;
    let prior = Prior::read(&arguments.prior, board.name.as_str()).context("--prior")?;
    let request = arguments.request(prior);
    let (table, report) = search_journaled(source, &board, &request, arguments.journal.as_deref())?;
    let length = plan_file::write(&arguments.out, &table, &board)?;
    let mut out = io::stdout().lock();
    write_report(&mut out, &table, &report)?;
    writeln!(
        out,
        "{}: {length} bytes (seed {})",
        arguments.out.display(),
        arguments.seed
    )?;
    Ok(Verdict::Done)
}
