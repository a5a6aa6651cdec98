//! ALS: active learning for a whole plan.
//!
//! 1. An initial design (`search::design`) measures every slot at the extremes, and of each workload one
//!    batch size in a few more modes: the others have the same shape.
//! 2. A [`Surrogate`] is fitted to everything observed: all workloads and batch sizes together.
//! 3. The next profiles are the cells whose expected gain over the users' demands (`search::gain`) is
//!    the largest per profile: a mode, and in it the slots that pay (`search::propose`). Of these the
//!    one whose power is known least is measured: should it disappoint, the others are saved.
//!    A mode that can answer is then measured with what no demand weighs, too: the second inference workload
//!    of a task that trains, at one batch size, without which it could not run there.
//! 4. Repeat from 2 until the bench stops it or no expected gain is left.
//!
//! Nothing is random: the seed of a search changes nothing here but the noise of a simulated board.

use super::design;
use super::propose::{self, Agenda};
use crate::bench::{Bench, Stop};
use crate::demand::{self, DemandGrid, PowerRange};
use crate::offer::{self, Offer};
use crate::pool::Pool;
use crate::surrogate::Surrogate;
use crate::surrogate::clocks::Clocks;
use crate::workload::Task;

/// Modes of the initial design.
const INITIAL_MODES: usize = 5;
/// Of these, the extremes: the fastest and the slowest mode.
const EXTREMES: usize = 2;
/// A search ends when the expected gain of the best profile, averaged over demands, is below this.
const GAIN_MIN: f64 = 2e-5;

/// Searches until the bench's limit, or until nothing more is to be gained.
///
/// # Errors
/// [`Stop`], as the bench gave it.
pub fn run(bench: &mut Bench<'_>) -> Result<(), Stop> {
    let evidence = bench.evidence();
    let clocks = &evidence.clocks[..bench.modes().len()];
    for (at, mode) in design::initial(clocks, INITIAL_MODES)
        .into_iter()
        .enumerate()
    {
        for slot in 0..bench.pool().slot_count() {
            if at < EXTREMES || is_middle(bench.task(), slot) {
                bench.measure(mode, slot)?;
            }
        }
    }
    let problem = offer::main_problem(bench.task());
    let offers = Offer::of(bench.task(), problem);
    let range = power_range(bench.task(), bench.pool());
    let grid = DemandGrid::of(problem, is_heavy(bench.task(), bench.pool()), range);
    let beside: Vec<usize> = (0..bench.pool().slot_count())
        .filter(|&slot| !propose::is_needed(&offers, slot) && is_middle(bench.task(), slot))
        .collect();
    let mut agenda = Agenda::new(clocks.len());
    let mut surrogate = None;
    loop {
        surrogate = Surrogate::fit(
            &evidence.task,
            &evidence.clocks,
            &evidence.pool(bench.pool()),
            surrogate.as_ref(),
        );
        let Some(surrogate) = &surrogate else {
            return Ok(());
        };
        let pool = bench.pool();
        let believe = |mode: usize| {
            let of = |slot: usize| propose::belief(surrogate, &clocks[mode], pool, mode, slot);
            propose::by_slot(pool.slot_count(), &offers, of)
        };
        match agenda.next(believe, pool, &offers, &grid) {
            Some(next) if next.gain > GAIN_MIN => {
                if let Some(slot) = riskiest(surrogate, &clocks[next.mode], &next.slots) {
                    bench.measure(next.mode, slot)?;
                }
                if next.slots.len() == 1 {
                    for &slot in &beside {
                        bench.measure(next.mode, slot)?;
                    }
                }
            }
            _ => return Ok(()),
        }
    }
}

/// Whether a slot has the middle one of its workload's batch sizes.
fn is_middle(task: &Task, slot: usize) -> bool {
    let workload = task.slots()[slot].workload;
    let slots = 0..task.slots().len();
    let siblings: Vec<usize> = slots
        .filter(|&other| task.slots()[other].workload == workload)
        .collect();
    siblings[siblings.len() / 2] == slot
}

/// The slot whose power in a mode is known least; of equals the first.
fn riskiest(surrogate: &Surrogate, clocks: &Clocks, slots: &[usize]) -> Option<usize> {
    let risk = |slot: usize| {
        let belief = surrogate.predict(clocks, slot);
        belief.map_or(0.0, |belief| belief.power_sigma_w)
    };
    let ranked = slots.iter().copied().rev();
    ranked.max_by(|&a, &b| risk(a).total_cmp(&risk(b)))
}

/// What the initial design, which holds the extremes, drew.
fn power_range(task: &Task, pool: &Pool) -> PowerRange {
    let modes = pool.observed_modes();
    let slots = 0..task.slots().len();
    let cells = modes
        .iter()
        .flat_map(|&mode| slots.clone().filter_map(move |slot| pool.cell(mode, slot)));
    PowerRange::of(cells)
}

/// Whether the workload that is served, or else trained, is heavy, by its fastest observed minibatch.
fn is_heavy(task: &Task, pool: &Pool) -> bool {
    let (slot, limit_us) = demand::heavy_limit(task);
    let cells = pool
        .observed_modes()
        .into_iter()
        .filter_map(|mode| pool.cell(mode, slot));
    cells
        .map(|cell| cell.time_us.0)
        .min()
        .is_some_and(|fastest| fastest > limit_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards;
    use crate::prior::Prior;
    use crate::profile::synthetic::Synthetic;
    use crate::profile::{Measurement, ProfileSource as _, Run, find_workload};
    use crate::workload::Role;

    #[test]
    fn a_second_inference_beside_training_is_measured_where_the_first_can_run() {
        let mut board = Synthetic::new(boards::named("orin-agx").unwrap(), 1).without_noise();
        let of = |role, name| find_workload(&board, role, name).unwrap();
        let train = of(Role::Train, "resnet18");
        let infer = ["mobilenetv3", "resnet50"].map(|name| of(Role::Infer, name));
        let task = Task::new(Some(train), infer.to_vec()).unwrap();
        let modes: Vec<_> = board.modes(&[]).into_iter().step_by(40).collect();
        let mut quiet = |_: usize, _: usize, _: &Run, _: &Measurement| {};
        let prior = Prior::default();
        let mut bench = Bench::new(&mut board, &task, &modes, &prior, 60, &mut quiet);
        let _ = run(&mut bench);
        let pool = bench.finish().0;
        let any =
            |mode: usize, slots: &[usize]| slots.iter().any(|&s| pool.cell(mode, s).is_some());
        let answers = |mode: &usize| any(*mode, &[0]) && any(*mode, &task.slots_infer(0));
        let found: Vec<usize> = (0..modes.len()).filter(answers).collect();
        let without = |mode: &&usize| !any(**mode, &task.slots_infer(1));
        assert!(found.len() > INITIAL_MODES, "{found:?}");
        // The limit may fall between the two.
        assert!(found.iter().filter(without).count() <= 1, "{found:?}");
    }
}
