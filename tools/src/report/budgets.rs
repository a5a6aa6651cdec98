//! Which budgets a page asks about, if nobody says: round numbers that span what the plan can do.

use super::ticks;
use fulcrum_plan::PlanTable;
use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};

/// Most power budgets of a table.
const POWERS_MAX: f64 = 12.0;
/// Arrival rates of a table.
const RATES: u32 = 4;

/// What the user said of latency and rates; what is missing is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Latency budget.
    pub latency_us: Option<MicroSec>,
    /// Arrival rates.
    pub rates: Vec<MilliRps>,
}

/// Power budgets in steps of 1, 2 or 5 (times ten to some power) W, 5 W for a board of 20 to 60 W: from
/// the first that any cell fits to the first that all cells fit.
#[must_use]
pub fn powers(plan: &PlanTable) -> Vec<MilliWatt> {
    let cells = || plan.rows.iter().flat_map(|row| row.cells.iter().flatten());
    let low = cells().map(|cell| cell.power_mw.0).min();
    let high = cells().map(|cell| cell.power_mw.0).max();
    let Some((low, high)) = low.zip(high) else {
        return Vec::new();
    };
    let span = f64::from(high - low).max(1000.0) / 1e3;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number of mW, at most a tenth of a u32"
    )]
    let step = ((ticks::up(span / POWERS_MAX) * 1e3).round() as u32).max(1);
    let (first, last) = (low.div_ceil(step), high.div_ceil(step));
    (first..=last)
        .map(|at| MilliWatt(at.saturating_mul(step)))
        .collect()
}

/// Arrival rates: equal steps up to about half of what the fastest cell of the served workload sustains.
#[must_use]
pub fn rates(plan: &PlanTable, served: usize, wishes: &Wishes) -> Vec<MilliRps> {
    if !wishes.rates.is_empty() {
        return wishes.rates.clone();
    }
    let cells = plan.slots_infer(served).flat_map(|(slot, batch)| {
        let cells = plan.rows.iter().filter_map(move |row| row.cell(slot));
        cells.map(move |cell| f64::from(batch) * 1e6 / f64::from(cell.time_us.0.max(1)))
    });
    let most = cells.fold(0.0, f64::max);
    if most <= 0.0 {
        return Vec::new();
    }
    let step = ticks::down(most / 2.0 / f64::from(RATES));
    (1..=RATES)
        .filter_map(|at| MilliRps::per_second(step * f64::from(at)))
        .collect()
}

/// A latency budget that lets the largest batch size fill and run at the middle rate, rounded up.
#[must_use]
pub fn latency(plan: &PlanTable, served: usize, rates: &[MilliRps], wishes: &Wishes) -> MicroSec {
    if let Some(latency_us) = wishes.latency_us {
        return latency_us;
    }
    let largest = plan.slots_infer(served).last();
    let (Some((slot, batch)), Some(rate)) = (largest, rates.get(rates.len() / 2)) else {
        return MicroSec(1_000_000);
    };
    let cells = plan.rows.iter().filter_map(|row| row.cell(slot));
    let time_us = cells.map(|cell| cell.time_us.0).min().unwrap_or(0);
    let window_ms = f64::from(batch) * 1e6 / f64::from(rate.0.max(1));
    let needed_ms = window_ms + f64::from(time_us) / 1e3;
    MicroSec::budget_ms(ticks::up(needed_ms)).unwrap_or(MicroSec(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn power_budgets_are_round_and_span_the_plan() {
        let plan = sample::plan();
        let budgets: Vec<u32> = powers(&plan).iter().map(|power| power.0).collect();
        let cells = || plan.rows.iter().flat_map(|row| row.cells.iter().flatten());
        let cell_powers: Vec<u32> = cells().map(|cell| cell.power_mw.0).collect();
        let (low, high) = (cell_powers.iter().min(), cell_powers.iter().max());
        assert!((5..=14).contains(&budgets.len()), "{budgets:?}");
        let step = budgets[1] - budgets[0];
        assert!([1_000, 2_000, 5_000].contains(&step), "{budgets:?}");
        assert!(
            budgets.windows(2).all(|pair| pair[1] - pair[0] == step),
            "{budgets:?}"
        );
        assert!(budgets[0].is_multiple_of(step) && budgets[0] >= *low.unwrap());
        assert!(budgets.last() >= high, "{budgets:?} {high:?}");
        let mut empty = sample::plan();
        empty.rows.clear();
        assert!(powers(&empty).is_empty());
    }

    #[test]
    fn wishes_come_first() {
        let plan = sample::plan();
        let wishes = Wishes {
            latency_us: Some(MicroSec(1234)),
            rates: vec![MilliRps(7)],
        };
        assert_eq!(rates(&plan, 0, &wishes), wishes.rates);
        assert_eq!(latency(&plan, 0, &wishes.rates, &wishes), MicroSec(1234));
    }

    #[test]
    fn some_batch_can_be_served_at_every_rate_that_was_chosen() {
        let plan = sample::plan();
        let wishes = Wishes::default();
        let rates = rates(&plan, 0, &wishes);
        let latency_us = latency(&plan, 0, &rates, &wishes);
        assert_eq!(rates.len(), RATES as usize);
        for rate in rates {
            let demand = fulcrum_plan::problem::Demand {
                power_mw: MilliWatt(60_000),
                latency_us,
                rate,
            };
            let problem = fulcrum_plan::select::Problem::TrainingInference(0);
            assert!(
                fulcrum_plan::select::select(&plan, problem, &demand).is_some(),
                "{rate}"
            );
        }
    }
}
