//! The study: every problem, task, strategy and seed, against the exhaustive optimum.
//!
//! The truth is a source that is also a [`Truth`]. Every configuration of the demand grids of
//! fulcrum.md section 6 is answered from what a strategy observed, and judged by the true cells of the
//! mode it chose. Jobs run in parallel; their results do not depend on the order in which they end
//! (test `the_study_does_not_depend_on_threads`).

mod case;
mod job;
mod markdown;
mod standard;
mod summary;
mod trace;
mod violations;

pub use job::Measuring;
pub use standard::standard;
pub use summary::{COLUMNS, Losses, Summary};
pub use violations::Violations;

use crate::prior::Prior;
use crate::profile::journal::Record;
use crate::profile::{ProfileSource, Truth, UnknownWorkload, find_workload};
use crate::search::{Kind, Strategy};
use crate::space::Grid;
use crate::workload::{Role, Task, TaskError, Workload};
use case::Case;
use fulcrum_plan::select::Problem;
use job::Outcome;
use rayon::prelude::*;
use serde::Serialize;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A problem of the study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StudyProblem {
    /// Training alone.
    Training,
    /// Inference alone.
    Inference,
    /// Training in the gaps of inference.
    Concurrent,
    /// Non-urgent inference in the gaps of urgent inference.
    TwoInference,
    /// Training in the gaps of inference whose rate changes from window to window.
    Dynamic,
}

impl StudyProblem {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Training,
        Self::Inference,
        Self::Concurrent,
        Self::TwoInference,
        Self::Dynamic,
    ];

    /// Name at the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Inference => "inference",
            Self::Concurrent => "concurrent",
            Self::TwoInference => "two-inference",
            Self::Dynamic => "dynamic",
        }
    }

    const fn formulas(self) -> Problem {
        match self {
            Self::Training => Problem::Training,
            Self::Inference => Problem::Inference(0),
            Self::Concurrent | Self::Dynamic => Problem::TrainingInference(0),
            Self::TwoInference => Problem::TwoInferences,
        }
    }

    /// The tasks of this problem that workloads make.
    fn tasks(self, workloads: &[Workload]) -> Result<Vec<Task>, TaskError> {
        let of = |role: Role| workloads.iter().filter(move |w| w.role == role).cloned();
        match self {
            Self::Training => of(Role::Train)
                .map(|w| Task::new(Some(w), vec![]))
                .collect(),
            Self::Inference => of(Role::Infer).map(|w| Task::new(None, vec![w])).collect(),
            Self::Concurrent | Self::Dynamic => of(Role::Train)
                .flat_map(|train| of(Role::Infer).map(move |infer| (train.clone(), infer)))
                .map(|(train, infer)| Task::new(Some(train), vec![infer]))
                .collect(),
            Self::TwoInference => of(Role::Infer)
                .flat_map(|one| of(Role::Infer).map(move |other| (one.clone(), other)))
                .filter(|(one, other)| one.name != other.name)
                .map(|(one, other)| Task::new(None, vec![one, other]))
                .collect(),
        }
    }
}

/// Problems of a name: one, or `all`.
///
/// # Errors
/// [`UnknownProblem`], which lists the names there are.
pub fn problems_named(name: &str) -> Result<Vec<StudyProblem>, UnknownProblem> {
    if name == "all" {
        return Ok(StudyProblem::ALL.to_vec());
    }
    let found = StudyProblem::ALL
        .into_iter()
        .find(|problem| problem.name() == name);
    found
        .map(|problem| vec![problem])
        .ok_or_else(|| UnknownProblem(name.to_owned()))
}

/// A problem that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no problem is named `{0}`; known: training, inference, concurrent, two-inference, dynamic, all"
)]
pub struct UnknownProblem(String);

/// A problem over some candidate modes, with the strategies that are tried on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The problem.
    pub problem: StudyProblem,
    /// Candidate modes.
    pub grid: Grid,
    /// Strategies, each with its limit.
    pub strategies: Vec<Strategy>,
}

/// What to study.
#[derive(Clone, Debug, PartialEq)]
pub struct StudyRequest {
    /// The parts, in the order of the results.
    pub parts: Vec<Part>,
    /// Training workloads; empty for all of the source.
    pub train: Vec<String>,
    /// Inference workloads; empty for all of the source.
    pub infer: Vec<String>,
    /// Seeds 0, 1, … of each strategy.
    pub seeds: u64,
    /// How the source is measured.
    pub measuring: Measuring,
    /// The search that was run before for every workload of the source: each task gets the
    /// measurements of all workloads that are not its own as a prior.
    pub prior: Option<Strategy>,
}

/// Why there is no study.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StudyError {
    /// The source does not have a workload.
    #[error(transparent)]
    Workload(#[from] UnknownWorkload),
    /// Workloads that are no task.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// A strategy without its limit.
    #[error("strategy `{0}` needs a limit: write `{0}:N`")]
    NoLimit(&'static str),
    /// A prior by a search that needs a demand.
    #[error(
        "a prior of `{0}`: it answers one demand and makes no plan; allowed: als:N, rnd:N, maxn"
    )]
    Prior(&'static str),
    /// A strategy or a workload that would count twice.
    #[error("`{0}` is named twice; name it once")]
    Twice(String),
    /// No seed.
    #[error("0 seeds; allowed: 1 or more")]
    NoSeeds,
    /// Nothing to do.
    #[error("no configuration: the source has no workloads for {0}")]
    Nothing(String),
}

/// The results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Study {
    /// The source.
    pub source: String,
    /// Seeds.
    pub seeds: u64,
    /// How the source failed, the margin and the prior, for people; empty without any.
    pub conditions: String,
    /// Configurations: every demand of every task of every problem.
    pub configurations: usize,
    /// Those with a solution.
    pub solvable: usize,
    /// Configurations that were answered and judged, over all strategies and the seeds that were run.
    pub judged: usize,
    /// Per part and strategy, over all tasks.
    pub overall: Vec<Summary>,
    /// Per part, task and strategy.
    pub by_task: Vec<Summary>,
}

impl Study {
    /// What was studied and how to read it.
    #[must_use]
    pub fn heading(&self) -> String {
        format!(
            "{}{}: {} configurations, {} of them solvable, {} judged over all strategies and seeds. {} \
             seeds; a strategy that draws nothing at random ran once, every seed gives the same. Loss in \
             % of the optimum's throughput, or of its peak latency in excess; an unsolved configuration \
             counts as 100. Runs and modes per search, seconds of computing per task and seed. Arrivals \
             of the dynamic problem: seed {}.",
            self.source,
            self.conditions,
            self.configurations,
            self.solvable,
            self.judged,
            self.seeds,
            trace::SEED
        )
    }
}

/// Runs a study. `on_progress` is told (jobs done, jobs) from several threads.
///
/// # Errors
/// [`StudyError`]: a workload or a limit is missing, nothing to do.
pub fn run<S: ProfileSource + Truth + Clone + Sync>(
    source: &S,
    request: &StudyRequest,
    on_progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Study, StudyError> {
    check(request)?;
    let workloads = workloads(source, request)?;
    let mut tasks: Vec<(&Part, Task)> = Vec::new();
    for part in &request.parts {
        let of_problem = part.problem.tasks(&workloads)?;
        tasks.extend(of_problem.into_iter().map(|task| (part, task)));
    }
    let lessons = |part: &Part| match &request.prior {
        Some(strategy) => lessons(source, strategy, part.grid),
        None => Ok(Prior::default()),
    };
    let lessons = request.parts.iter().map(lessons);
    let lessons = lessons.collect::<Result<Vec<Prior>, _>>()?;
    let cases: Vec<(&Part, Case)> = tasks
        .into_par_iter()
        .map(|(part, task)| {
            let at = request.parts.iter().position(|other| other == part);
            let lessons = &lessons[at.unwrap_or(0)];
            (
                part,
                Case::new(source, part.problem, task, part.grid, lessons),
            )
        })
        .filter(|(_, case)| case.solvable > 0)
        .collect();
    if cases.is_empty() {
        let names: Vec<&str> = request
            .parts
            .iter()
            .map(|part| part.problem.name())
            .collect();
        return Err(StudyError::Nothing(names.join(", ")));
    }
    let jobs: Vec<Job<'_>> = cases
        .iter()
        .flat_map(|(part, case)| part.strategies.iter().map(move |s| (*part, case, s)))
        .flat_map(|(part, case, strategy)| {
            (0..seeds(strategy, request)).map(move |seed| Job {
                part,
                case,
                strategy,
                seed,
            })
        })
        .collect();
    let done = AtomicUsize::new(0);
    let outcomes: Vec<Outcome> = jobs
        .par_iter()
        .map(|job| {
            let outcome = job::run(source, job.case, job.strategy, request.measuring, job.seed);
            on_progress(done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len());
            outcome
        })
        .collect();
    Ok(summarize(source, request, &cases, &jobs, &outcomes))
}

/// A strategy and a seed on one case.
struct Job<'a> {
    part: &'a Part,
    case: &'a Case,
    strategy: &'a Strategy,
    seed: u64,
}

fn check(request: &StudyRequest) -> Result<(), StudyError> {
    if request.seeds == 0 {
        return Err(StudyError::NoSeeds);
    }
    if let Some(prior) = &request.prior
        && prior.kind.is_for_one_demand()
    {
        return Err(StudyError::Prior(prior.kind.name()));
    }
    let strategies = request.parts.iter().map(|part| &part.strategies);
    let names = strategies.map(|of| of.iter().map(Strategy::to_string).collect());
    let workloads = [request.train.clone(), request.infer.clone()];
    if let Some(twice) = names.chain(workloads).find_map(twice) {
        return Err(StudyError::Twice(twice));
    }
    let unlimited = |strategy: &&Strategy| strategy.limit.is_none() && strategy.kind.has_limit();
    let of_parts = request.parts.iter().flat_map(|part| &part.strategies);
    match of_parts.chain(&request.prior).find(unlimited) {
        Some(strategy) => Err(StudyError::NoLimit(strategy.kind.name())),
        None => Ok(()),
    }
}

/// A name that stands more than once among `names`.
fn twice(mut names: Vec<String>) -> Option<String> {
    names.sort_unstable();
    let pair = names.windows(2).find(|pair| pair[0] == pair[1])?;
    Some(pair[0].clone())
}

/// What a search of every workload by itself measures.
fn lessons<S: ProfileSource + Truth + Clone + Sync>(
    source: &S,
    strategy: &Strategy,
    grid: Grid,
) -> Result<Prior, StudyError> {
    let task = |workload: &Workload| match workload.role {
        Role::Train => Task::new(Some(workload.clone()), vec![]),
        Role::Infer => Task::new(None, vec![workload.clone()]),
    };
    let tasks = source.workloads().iter().map(task);
    let tasks = tasks.collect::<Result<Vec<_>, _>>()?;
    let searches: Vec<Vec<Record>> = tasks
        .par_iter()
        .map(|task| job::measured(source, task, strategy, grid))
        .collect();
    let mut prior = Prior::default();
    searches.iter().for_each(|records| prior.learn(records));
    Ok(prior)
}

fn workloads(
    source: &impl ProfileSource,
    request: &StudyRequest,
) -> Result<Vec<Workload>, StudyError> {
    let mut workloads = Vec::new();
    for (role, names) in [(Role::Train, &request.train), (Role::Infer, &request.infer)] {
        if names.is_empty() {
            workloads.extend(
                source
                    .workloads()
                    .iter()
                    .filter(|w| w.role == role)
                    .cloned(),
            );
        }
        for name in names {
            workloads.push(find_workload(source, role, name)?);
        }
    }
    Ok(workloads)
}

/// How many seeds of a strategy are run: one is enough where nothing is random.
fn seeds(strategy: &Strategy, request: &StudyRequest) -> u64 {
    let is_random = matches!(strategy.kind, Kind::Random | Kind::Nn);
    if is_random || request.measuring.faults.is_some() {
        request.seeds
    } else {
        1
    }
}

fn conditions(request: &StudyRequest) -> String {
    let mut text = String::new();
    if let Some(faults) = request.measuring.faults {
        text += &format!(" with {faults} and of each seed");
    }
    if !request.measuring.margin.is_none() {
        text += &format!(", margin {}", request.measuring.margin);
    }
    if let Some(prior) = &request.prior {
        text += &format!(", prior {prior} of every other workload");
    }
    text
}

fn summarize(
    source: &impl ProfileSource,
    request: &StudyRequest,
    cases: &[(&Part, Case)],
    jobs: &[Job<'_>],
    outcomes: &[Outcome],
) -> Study {
    let mut overall = Vec::new();
    let mut by_task = Vec::new();
    for part in &request.parts {
        let names: Vec<&str> = cases
            .iter()
            .filter(|(of, _)| *of == part)
            .map(|(_, case)| case.name.as_str())
            .collect();
        for strategy in &part.strategies {
            let select = |task: Option<&str>| -> Vec<&Outcome> {
                let is_one = |job: &Job<'_>| {
                    job.part == part
                        && job.strategy == strategy
                        && task.is_none_or(|task| job.case.name == task)
                };
                let all = jobs.iter().zip(outcomes);
                all.filter(|(job, _)| is_one(job)).map(|(_, o)| o).collect()
            };
            let seeds = seeds(strategy, request);
            let of_tasks: Vec<Summary> = names
                .iter()
                .map(|name| Summary::of(part, strategy, (Some(name), seeds), &select(Some(name))))
                .collect();
            let means = of_tasks.iter().map(|task| task.loss.mean);
            let Some(worst) = means.reduce(f64::max) else {
                continue;
            };
            overall.push(Summary {
                worst_task_mean: worst,
                ..Summary::of(part, strategy, (None, seeds), &select(None))
            });
            by_task.extend(of_tasks);
        }
    }
    let count = |of: fn(&Case) -> usize| cases.iter().map(|(_, case)| of(case)).sum();
    Study {
        source: source.identity(),
        seeds: request.seeds,
        conditions: conditions(request),
        configurations: count(|case| case.grid.powers.len() * case.grid.loads.len()),
        solvable: count(|case| case.solvable),
        judged: outcomes.iter().map(|outcome| outcome.configurations).sum(),
        overall,
        by_task,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards;
    use crate::profile::synthetic::Synthetic;

    fn board() -> Synthetic {
        Synthetic::new(boards::named("orin-nano-8").unwrap(), 1).without_noise()
    }

    fn request(problems: &str, strategies: &[&str]) -> StudyRequest {
        let part = |problem| Part {
            problem,
            grid: Grid::Subset441,
            strategies: strategies.iter().map(|s| s.parse().unwrap()).collect(),
        };
        let problems = problems_named(problems).unwrap();
        StudyRequest {
            parts: problems.into_iter().map(part).collect(),
            train: vec!["lstm".into()],
            infer: vec!["mobilenetv3".into()],
            seeds: 2,
            measuring: Measuring::default(),
            prior: None,
        }
    }

    /// Everything but the time it took.
    fn timeless(mut study: Study) -> Study {
        for summary in study.overall.iter_mut().chain(&mut study.by_task) {
            summary.seconds = 0.0;
        }
        study
    }

    #[test]
    fn the_study_does_not_depend_on_threads() {
        let request = request("training", &["als:20", "rnd:20", "gmd:8"]);
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| timeless(run(&board(), &request, &|_, _| {}).unwrap()))
        };
        assert_eq!(with(1), with(4));
    }

    #[test]
    fn an_exhaustive_search_loses_nothing_on_any_problem() {
        for problem in ["training", "inference", "concurrent"] {
            let study = run(&board(), &request(problem, &["exhaustive"]), &|_, _| {}).unwrap();
            let found = &study.overall[0];
            assert!(
                found.solvable > 0 && found.solvable <= found.configurations,
                "{problem}"
            );
            assert_eq!((found.loss.worst, found.solved), (0.0, 1.0), "{problem}");
            assert_eq!(found.violations.total(), 0, "{problem}");
            assert_eq!(found.switches_per_window, None, "{problem}");
            assert_eq!(study.judged, study.configurations, "{problem}");
        }
    }

    #[test]
    fn changing_arrivals_cost_switches_and_what_a_held_mode_gives_up() {
        let study = run(&board(), &request("dynamic", &["exhaustive"]), &|_, _| {}).unwrap();
        let found = &study.overall[0];
        assert_eq!((found.solved, found.violations.total()), (1.0, 0));
        let (switches, time) = (
            found.switches_per_window.unwrap(),
            found.switching_time.unwrap(),
        );
        assert!(switches > 0.0 && switches < 0.5, "{switches}");
        assert!(time > 0.0 && time < 0.01, "{time}");
        // Of two percent that a held mode may give up, and the longest change of clocks.
        assert!(
            found.loss.mean > 0.0 && found.loss.worst < 0.05,
            "{:?}",
            found.loss
        );
    }

    #[test]
    fn with_noise_budgets_are_violated_and_a_margin_keeps_them() {
        let with = |margin: &str| {
            let mut noisy = request("training", &["als:20", "gmd:8"]);
            noisy.measuring = Measuring {
                faults: Some("time=1,power=1,stuck=5,over-current=2".parse().unwrap()),
                margin: margin.parse().unwrap(),
            };
            run(&board(), &noisy, &|_, _| {}).unwrap().overall
        };
        for (plain, wide) in with("0").iter().zip(&with("4")) {
            assert_eq!(plain.seeds, 2);
            assert!(plain.violations.power > 0, "{plain:?}");
            assert_eq!(wide.violations.power, 0, "{wide:?}");
            assert_eq!(plain.violations.gross, 0, "{plain:?}");
        }
    }

    #[test]
    fn a_prior_changes_a_search_and_needs_one_for_a_whole_plan() {
        let mut request = request("training", &["als:10"]);
        let alone = timeless(run(&board(), &request, &|_, _| {}).unwrap());
        request.prior = Some("als:20".parse().unwrap());
        let taught = timeless(run(&board(), &request, &|_, _| {}).unwrap());
        assert_eq!(taught.overall[0].runs, 10.0);
        assert_ne!(taught.overall[0].loss, alone.overall[0].loss);
        request.prior = Some("gmd:9".parse().unwrap());
        let message = run(&board(), &request, &|_, _| {}).unwrap_err().to_string();
        assert!(
            message.contains("`gmd`") && message.contains("als:N"),
            "{message}"
        );
    }

    #[test]
    fn observed_modes_violate_nothing_and_predicted_ones_are_counted() {
        let study = run(
            &board(),
            &request("training", &["rnd:10", "nn:10"]),
            &|_, _| {},
        )
        .unwrap();
        assert_eq!(study.overall[0].violations.total(), 0);
        assert!(study.overall[1].violations.power > 0);
        let text = study.to_markdown();
        assert!(text.contains("| training | rnd:10 |"), "{text}");
        let over = study.overall[1].violations.power;
        assert!(text.contains(&format!("| {over}/0/0 |")), "{text}");
    }

    #[test]
    fn what_cannot_be_studied_is_said() {
        let fail =
            |request: &StudyRequest| run(&board(), request, &|_, _| {}).unwrap_err().to_string();
        assert!(fail(&request("training", &["als"])).contains("als:N"));
        let mut unknown = request("training", &["maxn"]);
        unknown.train = vec!["lstn".into()];
        assert!(fail(&unknown).contains("lstm"));
        assert!(fail(&request("training", &["rnd:9", "maxn", "rnd:9"])).contains("`rnd:9`"));
        let mut double = request("training", &["maxn"]);
        double.infer.push("mobilenetv3".into());
        assert!(fail(&double).contains("twice"));
        let single = request("two-inference", &["maxn"]);
        assert!(fail(&single).contains("two-inference"));
        assert!(
            problems_named("trainin")
                .unwrap_err()
                .to_string()
                .contains("training")
        );
    }
}
