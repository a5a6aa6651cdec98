//! `fulcrum evaluate`: strategies against the exhaustive optimum, on measured grids or a simulated board.

use crate::plan_file;
use crate::progress;
use crate::source::SourceArgument;
use crate::table::Table;
use crate::verdict::Verdict;
use anyhow::{Context, bail};
use fulcrum_plan::durable::replace_file;
use fulcrum_planner::evaluate::{
    self, COLUMNS, Measuring, Part, Study, StudyProblem, StudyRequest, Summary,
};
use fulcrum_planner::margin::Margin;
use fulcrum_planner::profile::faults::Faults;
use fulcrum_planner::profile::replay::Replay;
use fulcrum_planner::profile::synthetic::Synthetic;
use fulcrum_planner::search::Strategy;
use fulcrum_planner::space::Grid;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Options of `fulcrum evaluate`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The truth: replay:DIR or synthetic:BOARD
    #[arg(long, value_name = "SOURCE")]
    profiles: SourceArgument,
    /// Board, where a replay's folder has several
    #[arg(long, value_name = "NAME")]
    board: Option<String>,
    /// Training workload; may be given several times [default: all of the source]
    #[arg(long, value_name = "NAME")]
    train: Vec<String>,
    /// Inference workload; may be given several times [default: all of the source]
    #[arg(long, value_name = "NAME")]
    infer: Vec<String>,
    /// training, inference, concurrent, two-inference, dynamic or all
    #[arg(long, value_name = "PROBLEM", default_value = "all")]
    problem: String,
    /// Strategies with their limits, such as als:50,gmd:15,rnd:50,nn:250,bs:15,maxn [default: the standard
    /// study, whose strategies and grids differ by problem]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    strategies: Vec<Strategy>,
    /// Seeds of each strategy
    #[arg(long, value_name = "N", default_value_t = 5)]
    seeds: u64,
    /// Candidate modes: the 441-mode subset, or all [default: 441, or both in the standard study]
    #[arg(long, value_name = "441|all")]
    grid: Option<Grid>,
    /// Let measurements fail as on a board, such as time=0.75,power=0.5,stuck=4,over-current=1: noise
    /// (deviation in %), a stuck GPU clock and over-current (% of the profiles), lost=N (the board is
    /// lost after N profiles). The truth stays exact, so that violations are counted
    #[arg(long, value_name = "LIST")]
    faults: Option<Faults>,
    /// Count every measured time and power as this much larger
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    margin: Margin,
    /// Give every search what an earlier one, such as als:50, measured of each workload that is not its own
    #[arg(long, value_name = "STRATEGY")]
    prior: Option<Strategy>,
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the results as Markdown tables
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

impl Arguments {
    fn request(&self) -> anyhow::Result<StudyRequest> {
        let problems = evaluate::problems_named(&self.problem).context("--problem")?;
        let part = |&problem: &StudyProblem| Part {
            problem,
            grid: self.grid.unwrap_or(Grid::Subset441),
            strategies: self.strategies.clone(),
        };
        let parts = match self.strategies.is_empty() {
            true => evaluate::standard(&problems, self.grid),
            false => problems.iter().map(part).collect(),
        };
        if parts.is_empty() {
            bail!(
                "--grid {} --problem {}: not in the standard study; name --strategies",
                self.grid.unwrap_or_default(),
                self.problem
            );
        }
        Ok(StudyRequest {
            parts,
            train: self.train.clone(),
            infer: self.infer.clone(),
            seeds: self.seeds,
            measuring: Measuring {
                faults: self.faults,
                margin: self.margin,
            },
            prior: self.prior,
        })
    }
}

/// One line of the results.
fn row(name: String, summary: &Summary) -> Vec<String> {
    let mut row = vec![name, summary.strategy.clone(), summary.seeds.to_string()];
    row.extend(summary.columns());
    row
}

/// A task's results are indented below those over all tasks.
fn table(study: &Study) -> Table {
    let mut header = vec!["problem, task", "strategy", "seeds"];
    header.extend(COLUMNS);
    let mut table = Table::new(&header);
    for summary in &study.overall {
        table.push(row(summary.title(), summary));
        let of_these = |task: &&Summary| {
            (&task.grid, task.problem, &task.strategy)
                == (&summary.grid, summary.problem, &summary.strategy)
        };
        for task in study.by_task.iter().filter(of_these) {
            table.push(row(
                format!("  {}", task.task.as_deref().unwrap_or("")),
                task,
            ));
        }
    }
    table
}

/// What changing arrivals cost, a line per strategy.
fn switching(study: &Study) -> String {
    let lines = study.overall.iter().filter_map(|summary| {
        let per_window = summary.switches_per_window?;
        let time = summary.switching_time?;
        Some(format!(
            "{} {}: the mode changes in {:.0} % of the windows, which takes {:.3} % of the time\n",
            summary.problem.name(),
            summary.strategy,
            100.0 * per_window,
            100.0 * time
        ))
    });
    lines.collect()
}

fn study(arguments: &Arguments, request: &StudyRequest) -> anyhow::Result<Study> {
    let bar = progress::bar("evaluating", 0);
    let on_progress = |done: usize, jobs: usize| {
        bar.set_length(jobs as u64);
        bar.set_position(done as u64);
    };
    let study = match &arguments.profiles {
        SourceArgument::Replay(folder) => {
            let replay = Replay::open(Path::new(folder), arguments.board.as_deref())
                .context("--profiles")?;
            evaluate::run(&replay, request, &on_progress)
        }
        SourceArgument::Synthetic(name) => {
            let exact = Synthetic::new(&plan_file::board(name)?, 0).without_noise();
            evaluate::run(&exact, request, &on_progress)
        }
        SourceArgument::Exec(_) => bail!(
            "--profiles: a board at the end of a command has no known truth; allowed: replay:DIR, synthetic:BOARD"
        ),
    };
    bar.finish_and_clear();
    Ok(study?)
}

/// Runs the command.
///
/// # Errors
/// An unknown source, workload, problem or strategy, or a file that cannot be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let request = arguments.request()?;
    for (option, path) in [
        ("--json", &arguments.json),
        ("--markdown", &arguments.markdown),
    ] {
        if let Some(path) = path {
            plan_file::check_writable(option, path)?;
        }
    }
    let study = study(arguments, &request)?;
    if let Some(path) = &arguments.json {
        let json = serde_json::to_vec_pretty(&study)?;
        replace_file(path, &json).with_context(|| format!("--json {}", path.display()))?;
    }
    if let Some(path) = &arguments.markdown {
        replace_file(path, study.to_markdown().as_bytes())
            .with_context(|| format!("--markdown {}", path.display()))?;
    }
    // The files first: who reads the table may have seen enough of it.
    let mut out = io::stdout().lock();
    writeln!(out, "{}", study.heading())?;
    write!(out, "{}{}", table(&study), switching(&study))?;
    Ok(Verdict::Done)
}
