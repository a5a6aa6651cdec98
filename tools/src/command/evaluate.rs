//! `fulcrum evaluate`: strategies against the exhaustive optimum, on measured grids or a simulated board.

use crate::plan_file;
use crate::progress;
use crate::source::SourceArgument;
use crate::table::Table;
use crate::verdict::Verdict;
use anyhow::{Context, bail};
use fulcrum_plan::durable::replace_file;
use fulcrum_planner::evaluate::{self, Study, StudyRequest, Summary};
use fulcrum_planner::profile::replay::Replay;
use fulcrum_planner::profile::synthetic::Synthetic;
use fulcrum_planner::search::Strategy;
use fulcrum_planner::space::Grid;
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
    /// Strategies with their limits, such as als:50,gmd:15,rnd:50,nn:250,bs:15,maxn
    #[arg(long, value_name = "LIST", value_delimiter = ',', required = true)]
    strategies: Vec<Strategy>,
    /// Seeds of each strategy
    #[arg(long, value_name = "N", default_value_t = 5)]
    seeds: u64,
    /// Candidate modes: the 441-mode subset, or all
    #[arg(long, value_name = "441|all", default_value = "441")]
    grid: Grid,
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

/// One line of the results; a task's results are indented below those over all tasks.
fn row(name: String, summary: &Summary) -> Vec<String> {
    let percent = |share: f64| format!("{:.2}", 100.0 * share);
    let violations = &summary.violations;
    vec![
        name,
        summary.strategy.clone(),
        percent(summary.loss.mean),
        percent(summary.worst_task_mean),
        percent(summary.loss.median),
        percent(summary.loss.p95),
        percent(summary.loss.worst),
        percent(summary.solved),
        format!(
            "{}/{}/{}",
            violations.power, violations.latency, violations.rate
        ),
        violations.gross.to_string(),
        format!("{:.1}", summary.runs),
        format!("{:.1}", summary.modes),
        format!("{:.2}", summary.seconds),
    ]
}

fn table(study: &Study) -> Table {
    let mut table = Table::new(&[
        "problem, task",
        "strategy",
        "mean %",
        "worst task %",
        "median %",
        "p95 %",
        "worst %",
        "solved %",
        "violations P/L/rate",
        ">1 W/10 ms",
        "runs",
        "modes",
        "s",
    ]);
    for summary in &study.overall {
        let problem = summary.problem;
        table.push(row(problem.name().to_owned(), summary));
        let of_these =
            |task: &&Summary| task.problem == problem && task.strategy == summary.strategy;
        for task in study.by_task.iter().filter(of_these) {
            table.push(row(
                format!("  {}", task.task.as_deref().unwrap_or("")),
                task,
            ));
        }
    }
    table
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
    let request = StudyRequest {
        problems: evaluate::problems_named(&arguments.problem).context("--problem")?,
        train: arguments.train.clone(),
        infer: arguments.infer.clone(),
        strategies: arguments.strategies.clone(),
        seeds: arguments.seeds,
        grid: arguments.grid,
        faults: None,
        prior: arguments.prior,
    };
    let study = study(arguments, &request)?;
    println!(
        "{}, grid {}, {} seeds. Loss in % of the optimum's throughput, or of its peak latency in excess; \
         an unsolved configuration counts as 100.",
        study.source, study.grid, study.seeds
    );
    print!("{}", table(&study));
    if let Some(path) = &arguments.json {
        let json = serde_json::to_vec_pretty(&study)?;
        replace_file(path, &json).with_context(|| format!("--json {}", path.display()))?;
    }
    if let Some(path) = &arguments.markdown {
        replace_file(path, study.to_markdown().as_bytes())
            .with_context(|| format!("--markdown {}", path.display()))?;
    }
    Ok(Verdict::Done)
}
