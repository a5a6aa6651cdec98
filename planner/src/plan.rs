//! From a request to a plan table: search, front, assembly.

use crate::bench::{Bench, Discarded, OnProfile, Stop};
use crate::front;
use crate::margin::Margin;
use crate::offer;
use crate::pool::Pool;
use crate::prior::Prior;
use crate::profile::journal::Header;
use crate::profile::{ProfileError, ProfileSource, UnknownWorkload, find_workload};
use crate::search::{self, Goal, Kind, NeedsGoal, Strategy, gmd};
use crate::space::Grid;
use crate::workload::{Role, Task, TaskError, Workload};
use crc::{CRC_32_ISO_HDLC, Crc};
use fulcrum_plan::problem::Demand;
use fulcrum_plan::table::Provenance;
use fulcrum_plan::{Board, GpuMasks, PlanTable, PowerMode, check, table};

/// What to plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRequest {
    /// Training workload.
    pub train: Option<String>,
    /// Inference workloads, the urgent one first.
    pub infer: Vec<String>,
    /// How to search.
    pub strategy: Strategy,
    /// Most profiles to pay; the smaller of this and the strategy's own limit counts.
    pub max_profiles: Option<u32>,
    /// Seed of everything random.
    pub seed: u64,
    /// Candidate modes.
    pub grid: Grid,
    /// The demand to answer, for searches that answer one.
    pub demand: Option<Demand>,
    /// What earlier plans of the board taught.
    pub prior: Prior,
    /// By how much the plan counts every measurement as larger.
    pub margin: Margin,
}

/// How a search ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It saw no gain in further profiles.
    Finished,
    /// At its limit.
    Spent,
    /// The board was lost; the plan holds what was measured before.
    Lost(String),
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Finished => f.write_str("no gain was left"),
            Self::Spent => f.write_str("that is the limit"),
            Self::Lost(reason) => write!(f, "the board was lost: {reason}"),
        }
    }
}

/// What a search cost and found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchReport {
    /// Candidate modes.
    pub candidates: usize,
    /// Profiles paid, discarded ones included.
    pub profiles: usize,
    /// The limit, if there was one.
    pub limit: Option<usize>,
    /// Modes observed.
    pub modes: usize,
    /// Measurements that were not trusted.
    pub discarded: Vec<Discarded>,
    /// How it ended.
    pub ending: Ending,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The source does not have a workload.
    #[error(transparent)]
    Workload(#[from] UnknownWorkload),
    /// The workloads do not fit a plan.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// A name that a plan cannot hold.
    #[error("{what} `{name}` does not fit a plan: at most {most} bytes")]
    Name {
        /// What it names.
        what: &'static str,
        /// The name.
        name: String,
        /// Allowed.
        most: usize,
    },
    /// A search that needs a limit got none.
    #[error("strategy `{0}` needs a limit: write `{0}:N` or set the most profiles")]
    NoLimit(String),
    /// A strategy that answers with modes it did not observe.
    #[error("strategy `{0}` predicts; a plan holds observed modes only: use it in an evaluation")]
    Predicts(&'static str),
    /// A search for one demand got none.
    #[error(transparent)]
    Goal(#[from] NeedsGoal),
    /// No candidate is on the board and measured for all workloads.
    #[error(
        "no candidate mode: {measured} modes were measured for all of the workloads, \
         {on_grid} of them are on grid {grid}, none of these is a mode of board {board}"
    )]
    NoModes {
        /// Modes that the source has for all workloads.
        measured: usize,
        /// Of these, on the grid.
        on_grid: usize,
        /// The grid.
        grid: Grid,
        /// The board.
        board: String,
    },
    /// Not one trusted profile.
    #[error("nothing was observed in {profiles} profiles ({reason}); a plan needs one mode")]
    NothingObserved {
        /// Profiles paid.
        profiles: usize,
        /// How the search ended.
        reason: String,
    },
    /// The source or its journal failed.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The plan breaks a rule; a defect of the planner.
    #[error("the plan breaks a rule of its own format; please report this: {0}")]
    Check(check::CheckError),
}

/// Searches and assembles the plan for `board`, which `source` measures. `on_profile` is told after every
/// profile.
///
/// Deterministic (invariant I8, test `i8_the_same_seed_gives_the_same_bytes`).
///
/// # Errors
/// [`PlanError`]. A board that is lost on the way is not one, if anything was observed: the plan then
/// holds what there is, and the report says so.
pub fn make(
    source: &mut dyn ProfileSource,
    board: &Board,
    request: &PlanRequest,
    on_profile: &mut OnProfile<'_>,
) -> Result<(PlanTable, SearchReport), PlanError> {
    if request.strategy.kind == Kind::Nn {
        return Err(PlanError::Predicts(request.strategy.kind.name()));
    }
    let task = task(source, request)?;
    let modes = candidates(source, &task, request.grid, board)?;
    let limit = limit(request)?;
    // A search for one demand counts modes; its bench is limited by the request only.
    let runs_max = match request.strategy.kind.is_for_one_demand() {
        true => request.max_profiles.map(|most| most as usize),
        false => limit,
    };
    let gpu_masks = source.gpu_masks();
    let goal = request.demand.map(|demand| Goal {
        problem: offer::main_problem(&task),
        demand,
    });

    let most = runs_max.unwrap_or(usize::MAX);
    let mut bench = Bench::new(source, &task, &modes, &request.prior, most, on_profile);
    let mut memory = gmd::Memory::default();
    let end = search::run(
        &request.strategy,
        &mut bench,
        request.seed,
        goal.as_ref(),
        &mut memory,
    )?;
    let ending = match end {
        Ok(()) => Ending::Finished,
        Err(Stop::Spent) => Ending::Spent,
        Err(Stop::Failed(ProfileError::Lost { reason })) => Ending::Lost(reason),
        Err(Stop::Failed(error)) => return Err(error.into()),
    };
    let (pool, profiles, discarded) = bench.finish();
    let report = SearchReport {
        candidates: modes.len(),
        profiles,
        limit: runs_max,
        modes: pool.observed_modes().len(),
        discarded,
        ending,
    };
    if report.modes == 0 {
        return Err(PlanError::NothingObserved {
            profiles,
            reason: report.ending.to_string(),
        });
    }
    let table = assemble(board, &task, &modes, &pool, request, profiles, gpu_masks)?;
    check::check(&table, board).map_err(PlanError::Check)?;
    Ok((table, report))
}

/// The journal header of a request, for [`crate::profile::journal::Journaled`].
///
/// # Errors
/// [`PlanError`], if the source does not have the workloads.
pub fn journal_header(
    source: &dyn ProfileSource,
    request: &PlanRequest,
) -> Result<Header, PlanError> {
    let mut strategy = format!("{} on grid {}", strategy(request)?, request.grid);
    if !request.prior.is_empty() {
        let (count, crc) = (request.prior.len(), request.prior.checksum());
        strategy += &format!(" with a prior of {count} profiles, checksum {crc:08x}");
    }
    Ok(Header {
        board: source.board().to_owned(),
        source: source.identity(),
        workloads: task(source, request)?.workloads().to_vec(),
        strategy,
        seed: request.seed,
    })
}

fn task(source: &dyn ProfileSource, request: &PlanRequest) -> Result<Task, PlanError> {
    let train = request
        .train
        .as_deref()
        .map(|name| find_workload(source, Role::Train, name))
        .transpose()?;
    let infer = request
        .infer
        .iter()
        .map(|name| find_workload(source, Role::Infer, name))
        .collect::<Result<Vec<_>, _>>()?;
    let task = Task::new(train, infer)?;
    // A name that is too long shows now, not when the profiles are paid.
    for named in task.workloads() {
        workload(named)?;
    }
    Ok(task)
}

fn candidates(
    source: &dyn ProfileSource,
    task: &Task,
    grid: Grid,
    board: &Board,
) -> Result<Vec<PowerMode>, PlanError> {
    let measured = source.modes(task.workloads());
    let on_grid = grid.candidates(&measured, Some(board));
    let on_board: Vec<PowerMode> = on_grid
        .iter()
        .filter(|mode| board.check_mode(mode).is_ok())
        .copied()
        .collect();
    if on_board.is_empty() {
        return Err(PlanError::NoModes {
            measured: measured.len(),
            on_grid: on_grid.len(),
            grid,
            board: board.name.as_str().to_owned(),
        });
    }
    Ok(on_board)
}

fn limit(request: &PlanRequest) -> Result<Option<usize>, PlanError> {
    let limits = [request.strategy.limit, request.max_profiles];
    let limit = limits.into_iter().flatten().min();
    if limit.is_none() && request.strategy.kind.has_limit() {
        return Err(PlanError::NoLimit(request.strategy.kind.name().to_owned()));
    }
    Ok(limit.map(|limit| limit as usize))
}

/// The strategy with the limit that was in effect, as provenance has it.
fn strategy(request: &PlanRequest) -> Result<Strategy, PlanError> {
    Ok(Strategy {
        kind: request.strategy.kind,
        limit: limit(request)?.and_then(|limit| u32::try_from(limit).ok()),
    })
}

/// The strategy, and what else a plan owes its cells to: `als:50+prior+1%`.
fn provenance(request: &PlanRequest) -> Result<String, PlanError> {
    let mut text = strategy(request)?.to_string();
    if !request.prior.is_empty() {
        text += "+prior";
    }
    if !request.margin.is_none() {
        text += &format!("+{}", request.margin);
    }
    Ok(text)
}

fn fixed<const N: usize>(what: &'static str, name: &str) -> Result<heapless::String<N>, PlanError> {
    heapless::String::try_from(name).map_err(|_| PlanError::Name {
        what,
        name: name.to_owned(),
        most: N,
    })
}

fn workload(workload: &Workload) -> Result<table::Workload, PlanError> {
    Ok(table::Workload {
        name: fixed("workload", &workload.name)?,
        batches: workload.batches.iter().copied().collect(),
    })
}

fn assemble(
    board: &Board,
    task: &Task,
    modes: &[PowerMode],
    pool: &Pool,
    request: &PlanRequest,
    profiles: usize,
    gpu_masks: GpuMasks,
) -> Result<PlanTable, PlanError> {
    let of = |role: Role| task.workloads().iter().filter(move |w| w.role == role);
    Ok(PlanTable {
        board: board.name.clone(),
        provenance: Provenance {
            strategy: fixed("strategy", &provenance(request)?)?,
            seed: request.seed,
            profiles: u32::try_from(profiles).unwrap_or(u32::MAX),
            inputs_crc: inputs_crc(modes, pool),
            gpu_masks,
        },
        train: of(Role::Train).next().map(workload).transpose()?,
        infer: of(Role::Infer).map(workload).collect::<Result<_, _>>()?,
        rows: front::rows(&pool.widened(request.margin), modes)
            .into_iter()
            .collect(),
    })
}

/// CRC-32/ISO-HDLC over the trusted measurements in the order they were made: mode, slot and cell of
/// each, as little-endian 32-bit integers.
#[must_use]
pub fn inputs_crc(modes: &[PowerMode], pool: &Pool) -> u32 {
    let crc = Crc::<u32>::new(&CRC_32_ISO_HDLC);
    let mut digest = crc.digest();
    for &(mode, slot) in pool.order() {
        let Some(cell) = pool.cell(mode, slot) else {
            continue;
        };
        let mode = modes[mode];
        let words = [
            u32::from(mode.cores),
            mode.cpu_khz.0,
            mode.gpu_khz.0,
            mode.emc_khz.0,
            slot as u32,
            cell.time_us.0,
            cell.power_mw.0,
        ];
        words
            .iter()
            .for_each(|word| digest.update(&word.to_le_bytes()));
    }
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards;
    use crate::profile::Measurement;
    use crate::profile::Run;
    use crate::profile::Truth as _;
    use crate::profile::faults::{Faults, Unreliable};
    use crate::profile::journal::{Journaled, Record};
    use crate::profile::synthetic::Synthetic;
    use fulcrum_plan::wire;

    fn orin() -> &'static Board {
        boards::named("orin-agx").unwrap()
    }

    fn board() -> Synthetic {
        Synthetic::new(orin(), 3)
    }

    fn request(strategy: &str, seed: u64) -> PlanRequest {
        PlanRequest {
            train: Some("resnet18".into()),
            infer: vec!["mobilenetv3".into()],
            strategy: strategy.parse().unwrap(),
            max_profiles: None,
            seed,
            grid: Grid::Subset441,
            demand: None,
            prior: Prior::default(),
            margin: Margin::default(),
        }
    }

    fn quiet(_: usize, _: usize, _: &Run, _: &Measurement) {}

    fn bytes(source: &mut dyn ProfileSource, request: &PlanRequest) -> Vec<u8> {
        let (table, _) = make(source, orin(), request, &mut quiet).unwrap();
        let mut buffer = vec![0; 1 << 16];
        wire::encode(&table, orin(), &mut buffer).unwrap().to_vec()
    }

    #[test]
    fn i8_the_same_seed_gives_the_same_bytes() {
        for strategy in ["als:48", "rnd:48", "maxn"] {
            let once = bytes(&mut board(), &request(strategy, 7));
            assert_eq!(
                once,
                bytes(&mut board(), &request(strategy, 7)),
                "{strategy}"
            );
        }
        let other = bytes(&mut board(), &request("rnd:48", 8));
        assert_ne!(bytes(&mut board(), &request("rnd:48", 7)), other);
    }

    #[test]
    fn a_killed_search_resumes_to_the_same_bytes_without_paying_twice() {
        let path = std::env::temp_dir().join(format!("fulcrum-plan-resume-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let request = request("als:40", 7);
        let unkilled = bytes(&mut board(), &request);
        let header = journal_header(&board(), &request).unwrap();
        let killed = Faults {
            lost_after: Some(25),
            ..Faults::default()
        };
        let mut source = Unreliable::new(board(), killed);
        let mut journaled = Journaled::open(&mut source as &mut dyn ProfileSource, &path, &header);
        let (table, report) =
            make(journaled.as_mut().unwrap(), orin(), &request, &mut quiet).unwrap();
        assert_eq!((report.profiles, table.provenance.profiles), (25, 25));
        assert!(matches!(report.ending, Ending::Lost(_)));
        drop(journaled);
        let mut again = Journaled::open(board(), &path, &header).unwrap();
        assert_eq!(again.profiles_left(), 25);
        assert_eq!(bytes(&mut again, &request), unkilled);
    }

    /// Invariant I3.
    #[test]
    fn i3_every_cell_of_a_plan_was_observed() {
        let mut exact = board().without_noise();
        let (table, report) = make(&mut exact, orin(), &request("als:60", 1), &mut quiet).unwrap();
        assert_eq!(report.profiles, 60);
        let mut cells = 0;
        for row in &table.rows {
            for (slot, cell) in row.cells.iter().enumerate() {
                let Some(cell) = cell else { continue };
                let (role, workload) = match slot {
                    0 => (Role::Train, "resnet18"),
                    _ => (Role::Infer, "mobilenetv3"),
                };
                let batch = [16, 1, 16, 64][slot];
                let workload = workload.to_owned();
                let run = Run {
                    mode: row.mode,
                    role,
                    workload,
                    batch,
                };
                assert_eq!(exact.truth(&run), Some(*cell));
                cells += 1;
            }
        }
        assert!(cells > 10 && cells <= 60, "{cells}");
    }

    #[test]
    fn a_margin_makes_every_cell_of_the_plan_larger_and_leaves_the_search_as_it_is() {
        let plain = make(&mut board(), orin(), &request("als:40", 1), &mut quiet).unwrap();
        let mut wide = request("als:40", 1);
        wide.margin = "2".parse().unwrap();
        let wide = make(&mut board(), orin(), &wide, &mut quiet).unwrap();
        assert_eq!(wide.1, plain.1);
        assert_eq!(wide.0.provenance.strategy, "als:40+2%");
        assert_eq!(wide.0.provenance.inputs_crc, plain.0.provenance.inputs_crc);
        let margin: Margin = "2".parse().unwrap();
        let mut cells = 0;
        for row in &wide.0.rows {
            let Some(narrow) = plain.0.rows.iter().find(|plain| plain.mode == row.mode) else {
                continue;
            };
            for (wide, narrow) in row.cells.iter().zip(&narrow.cells) {
                assert_eq!(*wide, narrow.map(|cell| margin.widen(cell)));
                cells += 1;
            }
        }
        assert!(cells > 20, "{cells}");
    }

    /// Invariant I3: what a prior knows is believed, never answered.
    #[test]
    fn i3_a_prior_changes_what_is_profiled_and_adds_no_answer() {
        let mut records = Vec::new();
        let mut other = request("als:40", 1);
        other.train = Some("mobilenetv3".into());
        other.infer = vec![];
        let mut keep = |_: usize, _: usize, run: &Run, measurement: &Measurement| {
            records.push(Record {
                run: run.clone(),
                measurement: *measurement,
            });
        };
        let _ = make(&mut board(), orin(), &other, &mut keep).unwrap();
        let mut alone = request("als:12", 1);
        alone.infer = vec![];
        let mut taught = alone.clone();
        taught.prior.learn(&records);
        let search = |request: &PlanRequest| {
            let mut runs = Vec::new();
            let mut keep = |_: usize, _: usize, run: &Run, _: &Measurement| runs.push(run.clone());
            let (table, _) = make(&mut board(), orin(), request, &mut keep).unwrap();
            (table, runs)
        };
        let ((_, without), (table, with)) = (search(&alone), search(&taught));
        assert_eq!(with.len(), 12);
        assert_ne!(with, without);
        for row in &table.rows {
            assert!(with.iter().any(|run| run.mode == row.mode));
        }
        assert_ne!(
            journal_header(&board(), &taught).unwrap(),
            journal_header(&board(), &alone).unwrap()
        );
    }

    #[test]
    fn what_cannot_be_planned_is_said() {
        let fail = |change: &dyn Fn(&mut PlanRequest)| {
            let mut request = request("als:10", 1);
            change(&mut request);
            make(&mut board(), orin(), &request, &mut quiet)
                .unwrap_err()
                .to_string()
        };
        let message = fail(&|r| r.train = Some("resnet19".into()));
        assert!(
            message.contains("resnet19") && message.contains("resnet18"),
            "{message}"
        );
        let message = fail(&|r| (r.train, r.infer) = (None, vec![]));
        assert!(message.contains("no workload"), "{message}");
        let message = fail(&|r| r.strategy = "als".parse().unwrap());
        assert!(message.contains("als:N"), "{message}");
        let mut dead = Unreliable::new(
            board(),
            Faults {
                lost_after: Some(0),
                ..Faults::default()
            },
        );
        let message = make(&mut dead, orin(), &request("maxn", 1), &mut quiet)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("nothing was observed in 0 profiles"),
            "{message}"
        );
    }
}
