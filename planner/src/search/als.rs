//! ALS: active learning of the front of a whole plan.
//!
//! After an initial design every step measures the mode with the largest expected improvement of the
//! fronts, summed over slots and over a ladder of power budgets.

use crate::bench::{Bench, Stop};
use crate::random::Random;
use crate::surrogate::gp::{Point, Prior, Process};
use crate::surrogate::normal;
use fulcrum_plan::PowerMode;

/// Modes of the initial design, corners included.
const INITIAL_MODES: usize = 10;
/// Rungs of the ladder of power budgets, evenly spaced between the smallest and the largest power seen.
const BUDGETS: u32 = 40;

const PRIOR_TIME: Prior = Prior {
    constant: 1.0,
    slope: 1.0,
    residual: 0.1,
    length: [0.6, 0.6, 0.6, 0.8],
    noise: 1e-4,
};
const PRIOR_POWER: Prior = Prior {
    constant: 1.0,
    slope: 0.3,
    residual: 0.05,
    length: [0.8, 0.8, 0.8, 1.0],
    noise: 5e-5,
};

/// Searches until the bench's limit.
///
/// # Errors
/// [`Stop`], as the bench gave it.
pub fn run(bench: &mut Bench<'_>, seed: u64) -> Result<(), Stop> {
    let points = points(bench.modes());
    for mode in initial_design(&points, seed) {
        bench.measure_all(mode)?;
    }
    while let Some(mode) = next_mode(bench, &points) {
        bench.measure_all(mode)?;
    }
    Ok(())
}

/// Each dimension as a logarithm, scaled to 0..=1 over the candidates.
fn points(modes: &[PowerMode]) -> Vec<Point> {
    let raw = |mode: &PowerMode| {
        [
            u32::from(mode.cores),
            mode.cpu_khz.0,
            mode.gpu_khz.0,
            mode.emc_khz.0,
        ]
        .map(|value| libm::log(f64::from(value)))
    };
    let mut points: Vec<Point> = modes.iter().map(raw).collect();
    for dimension in 0..4 {
        let values = points.iter().map(|point| point[dimension]);
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(f64::NEG_INFINITY, f64::max);
        let width = if high > low { high - low } else { 1.0 };
        for point in &mut points {
            point[dimension] = (point[dimension] - low) / width;
        }
    }
    points
}

fn distance(a: &Point, b: &Point) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// The least and the most of everything, then modes that are far from all before them, each the best
/// of a random handful.
fn initial_design(points: &[Point], seed: u64) -> Vec<usize> {
    let mut random = Random::new(seed, &[b"search als"]);
    let sum = |at: usize| points[at].iter().sum::<f64>();
    let by_sum = |a: &usize, b: &usize| sum(*a).total_cmp(&sum(*b));
    let mut chosen: Vec<usize> = (0..points.len()).min_by(by_sum).into_iter().collect();
    chosen.extend((0..points.len()).max_by(by_sum));
    while chosen.len() < INITIAL_MODES.min(points.len()) {
        let nearest = |at: usize| {
            chosen
                .iter()
                .map(|&other| distance(&points[at], &points[other]))
                .fold(f64::INFINITY, f64::min)
        };
        let handful = random.sample(points.len(), 50);
        let far = handful
            .into_iter()
            .max_by(|&a, &b| nearest(a).total_cmp(&nearest(b)));
        chosen.extend(far);
    }
    chosen
}

/// What is believed of one slot.
struct SlotModel {
    time: Process,
    power: Process,
    /// Budgets with the best observed logarithm of time under each.
    ladder: Vec<(f64, Option<f64>)>,
}

fn fit_slot(bench: &Bench<'_>, points: &[Point], slot: usize) -> Option<SlotModel> {
    let pool = bench.pool();
    let cells: Vec<_> = pool
        .order()
        .iter()
        .filter(|seen| seen.1 == slot)
        .filter_map(|&(mode, _)| Some((points[mode], pool.cell(mode, slot)?)))
        .collect();
    let samples = |of: fn(&fulcrum_plan::Cell) -> u32| -> Vec<(Point, f64)> {
        cells
            .iter()
            .map(|(point, cell)| (*point, libm::log(f64::from(of(cell)))))
            .collect()
    };
    let (low, high) = (
        cells.iter().map(|(_, cell)| cell.power_mw).min()?,
        cells.iter().map(|(_, cell)| cell.power_mw).max()?,
    );
    let ladder = (0..=BUDGETS)
        .map(|rung| {
            let budget = low.0 + (high.0 - low.0) / BUDGETS * rung;
            let fits = cells.iter().filter(|(_, cell)| cell.power_mw.0 <= budget);
            let best = fits.map(|(_, cell)| cell.time_us.0).min();
            let log = |value: u32| libm::log(f64::from(value));
            (log(budget), best.map(log))
        })
        .collect();
    Some(SlotModel {
        time: Process::fit(PRIOR_TIME, &samples(|cell| cell.time_us.0)),
        power: Process::fit(PRIOR_POWER, &samples(|cell| cell.power_mw.0)),
        ladder,
    })
}

impl SlotModel {
    /// Expected relative gain of time, summed over the budgets.
    fn gain(&self, point: &Point) -> f64 {
        let (time, time_sigma) = self.time.predict(point);
        let (power, power_sigma) = self.power.predict(point);
        let gain_at = |&(budget, best): &(f64, Option<f64>)| {
            let fits = normal::probability((budget - power) / power_sigma.max(1e-6));
            best.map_or(fits, |best| {
                fits * normal::expected_excess(-time, time_sigma, -best)
            })
        };
        self.ladder.iter().map(gain_at).sum()
    }
}

/// The mode of the largest expected gain among those not measured; ties: the smallest mode.
fn next_mode(bench: &Bench<'_>, points: &[Point]) -> Option<usize> {
    let slots = bench.pool().slot_count();
    let models: Vec<SlotModel> = (0..slots)
        .filter_map(|slot| fit_slot(bench, points, slot))
        .collect();
    let is_known = |mode: usize| {
        (0..slots)
            .all(|slot| bench.pool().observation(mode, slot) != crate::pool::Observation::Unknown)
    };
    let mut best: Option<(f64, usize)> = None;
    for mode in (0..points.len()).filter(|&mode| !is_known(mode)) {
        let gain = models.iter().map(|model| model.gain(&points[mode])).sum();
        if best.is_none_or(|(largest, _)| gain > largest) {
            best = Some((gain, mode));
        }
    }
    best.map(|(_, mode)| mode)
}
