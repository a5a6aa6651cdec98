//! `fulcrum select`: what a device would choose.

use super::show::{ModeJson, mhz};
use crate::plan_file;
use crate::verdict::Verdict;
use anyhow::{Context, bail};
use fulcrum_plan::PlanTable;
use fulcrum_plan::problem::Demand;
use fulcrum_plan::select::{Problem, Solution, select};
use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;

/// Options of `fulcrum select`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The plan file
    plan: PathBuf,
    #[command(flatten)]
    demand: DemandArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Board description file (.toml), for a plan of a board that this build does not know
    #[arg(long, value_name = "NAME|FILE")]
    board: Option<String>,
}

/// The budgets of a user, as `select` and `demo` take them.
#[derive(Clone, Debug, clap::Args)]
pub struct DemandArguments {
    /// Power budget in W
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    pub power: f64,
    /// Latency budget in ms, from a request's arrival to its answer
    #[arg(
        long,
        value_name = "MS",
        requires = "rate",
        allow_negative_numbers = true
    )]
    pub latency_ms: Option<f64>,
    /// Requests per second
    #[arg(
        long,
        value_name = "PER_S",
        requires = "latency_ms",
        allow_negative_numbers = true
    )]
    pub rate: Option<f64>,
    /// What to decide; default: what the plan and the options allow
    #[arg(long, value_enum)]
    pub problem: Option<ProblemArgument>,
}

/// The problems by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ProblemArgument {
    /// Train as fast as the power budget allows
    Training,
    /// Serve requests with the least peak latency
    Inference,
    /// Serve requests and train in the gaps
    Concurrent,
    /// Serve urgent requests and run the second inference workload in the gaps
    TwoInference,
}

/// A number at the command line that has to be representable in its unit.
fn quantity<T>(
    option: &str,
    value: f64,
    convert: impl Fn(f64) -> Option<T>,
    range: &str,
) -> anyhow::Result<T> {
    convert(value).with_context(|| format!("{option} {value}: allowed are {range}"))
}

impl DemandArguments {
    /// The demand in integers, and the problem that the plan and the options make.
    ///
    /// # Errors
    /// A value out of range, or a problem that the plan or the options do not allow.
    pub fn resolve(&self, plan: &PlanTable) -> anyhow::Result<(Problem, Demand)> {
        let power_mw = quantity("--power", self.power, MilliWatt::budget_w, "0 to 4000000 W")?;
        let latency_us = self.latency_ms.map(|latency_ms| {
            quantity(
                "--latency-ms",
                latency_ms,
                |ms| MicroSec::budget_ms(ms).filter(|latency_us| latency_us.0 > 0),
                "0.001 to 4000000 ms",
            )
        });
        let rate = self.rate.map(|rate| {
            quantity(
                "--rate",
                rate,
                |per_s| MilliRps::per_second(per_s).filter(|milli| milli.0 > 0),
                "0.001 to 4000000 requests per second",
            )
        });
        let demand = Demand {
            power_mw,
            latency_us: latency_us.transpose()?.unwrap_or_default(),
            rate: rate.transpose()?.unwrap_or_default(),
        };
        Ok((self.problem(plan)?, demand))
    }

    fn problem(&self, plan: &PlanTable) -> anyhow::Result<Problem> {
        let serving = self.rate.is_some();
        let problem = self
            .problem
            .unwrap_or(match (serving, &plan.train, plan.infer.len()) {
                (false, _, _) => ProblemArgument::Training,
                (true, Some(_), _) => ProblemArgument::Concurrent,
                (true, None, 2) => ProblemArgument::TwoInference,
                (true, None, _) => ProblemArgument::Inference,
            });
        if !serving && problem != ProblemArgument::Training {
            bail!("this problem serves requests: give --latency-ms and --rate");
        }
        let trains = matches!(
            problem,
            ProblemArgument::Training | ProblemArgument::Concurrent
        );
        if trains && plan.train.is_none() {
            bail!(
                "the plan has no training workload; give --latency-ms and --rate to serve requests"
            );
        }
        let infer_needed = match problem {
            ProblemArgument::Training => 0,
            ProblemArgument::Inference | ProblemArgument::Concurrent => 1,
            ProblemArgument::TwoInference => 2,
        };
        if plan.infer.len() < infer_needed {
            bail!(
                "this problem needs {infer_needed} inference workloads, the plan has {}",
                plan.infer.len()
            );
        }
        Ok(match problem {
            ProblemArgument::Training => Problem::Training,
            ProblemArgument::Inference => Problem::Inference(0),
            ProblemArgument::Concurrent => Problem::TrainingInference(0),
            ProblemArgument::TwoInference => Problem::TwoInferences,
        })
    }
}

#[derive(Debug, Serialize)]
struct SolutionJson {
    mode: ModeJson,
    /// Requests per inference batch; null for training alone.
    batch: Option<u16>,
    /// Background minibatches per window; null without background or without requests.
    k: Option<u64>,
    latency_us: Option<u64>,
    power_mw: u32,
    /// Training minibatches per second.
    train_per_s: Option<f64>,
    /// Two inferences: batch size and samples per second of the non-urgent one.
    #[serde(skip_serializing_if = "Option::is_none")]
    background_batch: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    background_samples_per_s: Option<f64>,
}

#[derive(Debug, Serialize)]
struct AnswerJson {
    solution: Option<SolutionJson>,
}

fn solution_json(problem: Problem, demand: &Demand, solution: &Solution) -> SolutionJson {
    let two = problem == Problem::TwoInferences;
    let per_s = solution.background_per_second(demand.rate);
    let background_batch = solution.background.map(|b| b.batch).filter(|_| two);
    SolutionJson {
        mode: solution.mode.into(),
        batch: solution.serving.map(|serving| serving.batch),
        k: solution
            .serving
            .and(solution.background)
            .map(|background| background.steps),
        latency_us: solution.serving.map(|serving| serving.latency_us),
        power_mw: solution.power_mw.0,
        train_per_s: per_s.filter(|_| !two),
        background_batch,
        background_samples_per_s: background_batch
            .zip(per_s)
            .map(|(b, per_s)| per_s * f64::from(b)),
    }
}

/// A solution for people.
fn write_solution(
    out: &mut impl Write,
    plan: &PlanTable,
    problem: Problem,
    demand: &Demand,
    solution: &Solution,
) -> io::Result<()> {
    let mode = solution.mode;
    writeln!(
        out,
        "mode      {} cores, CPU {} MHz, GPU {} MHz, EMC {} MHz",
        mode.cores,
        mhz(mode.cpu_khz.0),
        mhz(mode.gpu_khz.0),
        mhz(mode.emc_khz.0)
    )?;
    writeln!(
        out,
        "power     {:.2} W observed, {:.2} W budget",
        f64::from(solution.power_mw.0) / 1e3,
        f64::from(demand.power_mw.0) / 1e3
    )?;
    if let Some(serving) = solution.serving {
        writeln!(
            out,
            "batch     {} requests, {:.2} ms",
            serving.batch,
            f64::from(serving.time_us.0) / 1e3
        )?;
        #[expect(clippy::cast_precision_loss, reason = "for display")]
        let latency_ms = serving.latency_us as f64 / 1e3;
        let budget_ms = f64::from(demand.latency_us.0) / 1e3;
        writeln!(
            out,
            "latency   {latency_ms:.2} ms peak, {budget_ms:.2} ms budget"
        )?;
    }
    if let (Some(background), Some(per_s)) = (
        solution.background,
        solution.background_per_second(demand.rate),
    ) {
        let workload = match problem {
            Problem::TwoInferences => plan.infer.get(1),
            _ => plan.train.as_ref(),
        };
        let name = workload.map_or("", |workload| workload.name.as_str());
        let k = match solution.serving {
            Some(_) => format!(", k = {} per window", background.steps),
            None => String::new(),
        };
        writeln!(
            out,
            "{name}: {per_s:.3} minibatches/s of {} samples{k}",
            background.batch
        )?;
    }
    Ok(())
}

/// Runs the command.
///
/// # Errors
/// The file cannot be read or is no good plan, or an option is out of range.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let boards = plan_file::candidates(arguments.board.as_deref())?;
    let plan = plan_file::read_good(&arguments.plan, &boards)?;
    let (problem, demand) = arguments.demand.resolve(&plan)?;
    let solution = select(&plan, problem, &demand);
    let mut out = io::stdout().lock();
    if arguments.json {
        let json = solution
            .as_ref()
            .map(|found| solution_json(problem, &demand, found));
        writeln!(
            out,
            "{}",
            serde_json::to_string(&AnswerJson { solution: json })?
        )?;
    } else if let Some(found) = &solution {
        write_solution(&mut out, &plan, problem, &demand, found)?;
    } else {
        writeln!(
            out,
            "no solution: no observed mode of the plan fits these budgets"
        )?;
    }
    Ok(if solution.is_some() {
        Verdict::Done
    } else {
        Verdict::No
    })
}
