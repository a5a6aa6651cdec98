//! The best answer among many modes, for every power budget at once.
//!
//! A plan holds few modes and `fulcrum_plan::select` scans them. An exhaustive optimum is over
//! thousands; here the answers of all modes under one load are ranked once, and every power budget
//! takes the best of those that it affords. The conditions and the order of preference are the plan
//! crate's (invariant I4, test `the_answer_of_a_plan_is_what_select_chooses`).

use crate::demand::Load;
use crate::offer::{Offer, Part};
use fulcrum_plan::Cell;
use fulcrum_plan::problem::{self, Throughput};
use fulcrum_plan::units::MilliWatt;
use std::cmp::Ordering;

/// A part of an offer with its cell, if the offer has the part.
type Filled = Option<(Part, Cell)>;

/// An answer to a demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Candidate mode.
    pub mode: usize,
    /// Index of the offer.
    pub offer: usize,
    /// Power of the mode under the offer.
    pub power_mw: MilliWatt,
    /// Background throughput under a load; zero without a background.
    pub throughput: Throughput,
    /// Peak latency times the rate; the time of a training minibatch, where nothing is served.
    pub latency_scaled: u64,
}

impl Answer {
    /// How much worse than the optimum, as a share: of throughput lost, or of peak latency in excess.
    #[must_use]
    pub fn loss(&self, optimum: &Self, offer: &Offer) -> f64 {
        let ratio = self.latency_scaled as f64 / optimum.latency_scaled as f64;
        match (offer.serve, offer.background) {
            (None, _) => 1.0 - 1.0 / ratio,
            (Some(_), None) => ratio - 1.0,
            (Some(_), Some(_)) => {
                let per_request =
                    |t: &Throughput| t.steps as f64 * f64::from(t.step_batch) / f64::from(t.batch);
                let best = per_request(&optimum.throughput);
                if best == 0.0 {
                    0.0
                } else {
                    1.0 - per_request(&self.throughput) / best
                }
            }
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        other
            .throughput
            .compare(&self.throughput)
            .then(self.latency_scaled.cmp(&other.latency_scaled))
            .then(self.power_mw.cmp(&other.power_mw))
            .then(self.mode.cmp(&other.mode))
            .then(self.offer.cmp(&other.offer))
    }
}

/// What a mode gives under an offer and a load, apart from the power budget; `None` if it is late or
/// does not keep up.
fn answer(
    (mode, offer): (usize, usize),
    (serve, background): (Filled, Filled),
    load: &Load,
) -> Option<Answer> {
    let nothing = Throughput {
        steps: 0,
        step_batch: 1,
        batch: 1,
    };
    let power = |part: Filled| part.map(|(_, cell)| cell.power_mw).unwrap_or_default();
    let power_mw = problem::interleaved_power(power(serve), power(background));
    let Some((part, cell)) = serve else {
        return background.map(|(_, cell)| Answer {
            mode,
            offer,
            power_mw,
            throughput: nothing,
            latency_scaled: u64::from(cell.time_us.0),
        });
    };
    let keeps_up = problem::sustains(part.batch, load.rate, cell.time_us)
        && problem::meets_latency(part.batch, load.rate, cell.time_us, load.latency_us);
    if !keeps_up {
        return None;
    }
    let throughput = match background {
        None => nothing,
        Some((step, step_cell)) => Throughput {
            steps: problem::steps_per_window(
                part.batch,
                load.rate,
                cell.time_us,
                step_cell.time_us,
            )?,
            step_batch: step.worth,
            batch: part.batch,
        },
    };
    Some(Answer {
        mode,
        offer,
        power_mw,
        throughput,
        latency_scaled: problem::latency_scaled(part.batch, load.rate, cell.time_us),
    })
}

/// The best answer of `modes` under a load, for each of `powers` (ascending). `cell(mode, slot)` is
/// what is known of a mode.
pub fn best_by_power(
    modes: impl Iterator<Item = usize>,
    cell: impl Fn(usize, usize) -> Option<Cell>,
    offers: &[Offer],
    load: &Load,
    powers: &[MilliWatt],
) -> Vec<Option<Answer>> {
    let mut best: Vec<Option<Answer>> = vec![None; powers.len()];
    for mode in modes {
        for (at, offer) in offers.iter().enumerate() {
            let known = |part: Option<Part>| -> Option<Filled> {
                part.map_or(Some(None), |part| {
                    Some(Some((part, cell(mode, part.slot)?)))
                })
            };
            let (Some(serve), Some(background)) = (known(offer.serve), known(offer.background))
            else {
                continue;
            };
            let Some(answer) = answer((mode, at), (serve, background), load) else {
                continue;
            };
            let first = powers.partition_point(|&budget| budget < answer.power_mw);
            let Some(place) = best.get_mut(first) else {
                continue;
            };
            if place.is_none_or(|held| answer.order(&held) == Ordering::Less) {
                *place = Some(answer);
            }
        }
    }
    for at in 1..best.len() {
        let before = best[at - 1];
        if let Some(before) = before
            && best[at].is_none_or(|held| before.order(&held) == Ordering::Less)
        {
            best[at] = Some(before);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards;
    use crate::margin::Margin;
    use crate::plan::{self, PlanRequest};
    use crate::prior::Prior;
    use crate::profile::synthetic::Synthetic;
    use crate::profile::{Measurement, Run};
    use crate::space::Grid;
    use crate::workload::{Role, Task, Workload};
    use fulcrum_plan::problem::Demand;
    use fulcrum_plan::select::{self, Problem};
    use fulcrum_plan::units::{MicroSec, MilliRps};

    fn named(role: Role, name: &str, batches: &[u16]) -> Workload {
        Workload {
            role,
            name: name.into(),
            batches: batches.to_vec(),
        }
    }

    /// Invariant I4: the same formulas, whether a board selects or an evaluation ranks.
    #[test]
    fn the_answer_of_a_plan_is_what_select_chooses() {
        let orin = boards::named("orin-agx").unwrap();
        let mut board = Synthetic::new(orin, 3);
        let request = PlanRequest {
            train: Some("resnet18".into()),
            infer: vec!["mobilenetv3".into(), "resnet50".into()],
            strategy: "rnd:210".parse().unwrap(),
            max_profiles: None,
            seed: 5,
            grid: Grid::All,
            demand: None,
            prior: Prior::default(),
            margin: Margin::default(),
        };
        let mut quiet = |_: usize, _: usize, _: &Run, _: &Measurement| {};
        let (table, _) = plan::make(&mut board, orin, &request, &mut quiet).unwrap();
        let task = Task::new(
            Some(named(Role::Train, "resnet18", &[16])),
            vec![
                named(Role::Infer, "mobilenetv3", &[1, 16, 64]),
                named(Role::Infer, "resnet50", &[1, 16, 64]),
            ],
        )
        .unwrap();
        let powers: Vec<MilliWatt> = (10..60).map(|watts| MilliWatt(watts * 1000)).collect();
        let mut solved = 0;
        for problem in [
            Problem::Training,
            Problem::Inference(1),
            Problem::TrainingInference(0),
            Problem::TwoInferences,
        ] {
            let offers = Offer::of(&task, problem);
            for (latency_ms, rate) in [(100, 20), (400, 40), (900, 60), (2000, 90), (2000, 5)] {
                let load = Load {
                    latency_us: MicroSec(latency_ms * 1000),
                    rate: MilliRps(rate * 1000),
                };
                let cell = |row: usize, slot: usize| table.rows[row].cell(slot).copied();
                let best = best_by_power(0..table.rows.len(), cell, &offers, &load, &powers);
                for (power_mw, ours) in powers.iter().zip(best) {
                    let demand = Demand {
                        power_mw: *power_mw,
                        latency_us: load.latency_us,
                        rate: load.rate,
                    };
                    let theirs = select::select(&table, problem, &demand);
                    assert_eq!(ours.is_some(), theirs.is_some(), "{problem:?} {demand:?}");
                    let (Some(ours), Some(theirs)) = (ours, theirs) else {
                        continue;
                    };
                    solved += 1;
                    assert_eq!(ours.power_mw, theirs.power_mw, "{problem:?} {demand:?}");
                    let steps = theirs.background.map_or(0, |background| background.steps);
                    assert_eq!(ours.throughput.steps, steps, "{problem:?} {demand:?}");
                    let batch = theirs.serving.map(|serving| serving.batch);
                    let serve = offers[ours.offer].serve.map(|part| part.batch);
                    assert_eq!(serve, batch, "{problem:?} {demand:?}");
                }
            }
        }
        assert!(solved > 200, "{solved}");
    }
}
