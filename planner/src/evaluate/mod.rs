//! The study: every problem, task, strategy and seed, against the exhaustive optimum.
//!
//! The truth is a source that is also a [`Truth`]. Every configuration of the demand grids of
//! fulcrum.md section 6 is answered from what a strategy observed, and judged by the true cells of the
//! mode it chose. Jobs run in parallel; their results do not depend on the order in which they end
//! (test `the_study_does_not_depend_on_threads`).

mod case;
mod job;
mod markdown;
mod summary;
mod trace;
mod violations;

pub use summary::{Losses, Summary};
pub use violations::Violations;

use crate::prior::Prior;
use crate::profile::faults::Faults;
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

/// What to study.
#[derive(Clone, Debug, PartialEq)]
pub struct StudyRequest {
    /// Problems, in the order of the results.
    pub problems: Vec<StudyProblem>,
    /// Training workloads; empty for all of the source.
    pub train: Vec<String>,
    /// Inference workloads; empty for all of the source.
    pub infer: Vec<String>,
    /// Strategies, each with its limit.
    pub strategies: Vec<Strategy>,
    /// Seeds 0, 1, … of each.
    pub seeds: u64,
    /// Candidate modes.
    pub grid: Grid,
    /// How the source fails while it is measured; the truth stays exact.
    pub faults: Option<Faults>,
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
    /// Candidate modes, as named.
    pub grid: String,
    /// Seeds.
    pub seeds: u64,
    /// Per problem and strategy, over all tasks.
    pub overall: Vec<Summary>,
    /// Per problem, task and strategy.
    pub by_task: Vec<Summary>,
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
    let mut jobs: Vec<(StudyProblem, Task)> = Vec::new();
    for &problem in &request.problems {
        jobs.extend(
            problem
                .tasks(&workloads)?
                .into_iter()
                .map(|task| (problem, task)),
        );
    }
    let lessons = match &request.prior {
        Some(strategy) => lessons(source, strategy, request.grid)?,
        None => Prior::default(),
    };
    let cases: Vec<Case> = jobs
        .into_par_iter()
        .map(|(problem, task)| Case::new(source, problem, task, request.grid, &lessons))
        .filter(|case| case.solvable > 0)
        .collect();
    if cases.is_empty() {
        let names: Vec<&str> = request
            .problems
            .iter()
            .map(|problem| problem.name())
            .collect();
        return Err(StudyError::Nothing(names.join(", ")));
    }
    let jobs: Vec<(&Case, &Strategy, u64)> = cases
        .iter()
        .flat_map(|case| {
            request
                .strategies
                .iter()
                .map(move |strategy| (case, strategy))
        })
        .flat_map(|(case, strategy)| {
            seeds(strategy, request).map(move |seed| (case, strategy, seed))
        })
        .collect();
    let done = AtomicUsize::new(0);
    let outcomes: Vec<Outcome> = jobs
        .par_iter()
        .map(|(case, strategy, seed)| {
            let outcome = job::run(source, case, strategy, request.faults, *seed);
            on_progress(done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len());
            outcome
        })
        .collect();
    Ok(summarize(source, request, &jobs, &outcomes))
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
    let unlimited = |strategy: &&Strategy| strategy.limit.is_none() && strategy.kind.has_limit();
    let mut strategies = request.strategies.iter().chain(&request.prior);
    match strategies.find(unlimited) {
        Some(strategy) => Err(StudyError::NoLimit(strategy.kind.name())),
        None => Ok(()),
    }
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

/// The seeds of a strategy: one is enough where nothing is random.
fn seeds(strategy: &Strategy, request: &StudyRequest) -> std::ops::Range<u64> {
    let is_random = matches!(strategy.kind, Kind::Random | Kind::Nn) || request.faults.is_some();
    0..if is_random { request.seeds } else { 1 }
}

fn summarize(
    source: &impl ProfileSource,
    request: &StudyRequest,
    jobs: &[(&Case, &Strategy, u64)],
    outcomes: &[Outcome],
) -> Study {
    let mut overall = Vec::new();
    let mut by_task = Vec::new();
    let select =
        |problem: StudyProblem, strategy: &Strategy, task: Option<&str>| -> Vec<&Outcome> {
            jobs.iter()
                .zip(outcomes)
                .filter(|((case, of, _), _)| {
                    case.problem == problem
                        && *of == strategy
                        && task.is_none_or(|task| case.name == task)
                })
                .map(|(_, outcome)| outcome)
                .collect()
        };
    for &problem in &request.problems {
        let mut names: Vec<&str> = Vec::new();
        for (case, ..) in jobs.iter().filter(|(case, ..)| case.problem == problem) {
            if !names.contains(&case.name.as_str()) {
                names.push(&case.name);
            }
        }
        for strategy in &request.strategies {
            let of_all = select(problem, strategy, None);
            if of_all.is_empty() {
                continue;
            }
            overall.push(Summary::of(problem, strategy, None, &of_all));
            for name in &names {
                let of_task = select(problem, strategy, Some(name));
                by_task.push(Summary::of(problem, strategy, Some(name), &of_task));
            }
        }
    }
    Study {
        source: source.identity(),
        grid: request.grid.to_string(),
        seeds: request.seeds,
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
        StudyRequest {
            problems: problems_named(problems).unwrap(),
            train: vec!["lstm".into()],
            infer: vec!["mobilenetv3".into()],
            strategies: strategies.iter().map(|s| s.parse().unwrap()).collect(),
            seeds: 2,
            grid: Grid::Subset441,
            faults: None,
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
        for problem in ["training", "inference", "concurrent", "dynamic"] {
            let study = run(&board(), &request(problem, &["exhaustive"]), &|_, _| {}).unwrap();
            let found = &study.overall[0];
            assert!(
                found.solvable > 0 && found.solvable <= found.configurations,
                "{problem}"
            );
            assert_eq!((found.loss.worst, found.solved), (0.0, 1.0), "{problem}");
            assert_eq!(found.violations.total(), 0, "{problem}");
            assert_eq!(found.switches_per_window.is_some(), problem == "dynamic");
        }
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
        assert!(text.contains("power "), "{text}");
    }

    #[test]
    fn what_cannot_be_studied_is_said() {
        let fail =
            |request: &StudyRequest| run(&board(), request, &|_, _| {}).unwrap_err().to_string();
        assert!(fail(&request("training", &["als"])).contains("als:N"));
        let mut unknown = request("training", &["maxn"]);
        unknown.train = vec!["lstn".into()];
        assert!(fail(&unknown).contains("lstm"));
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
