//! What the surrogate believed against what was measured: before each profile the planner's surrogate
//! is fitted to the profiles paid so far, and asked for the one that follows.

use super::Subject;
use super::blocks::{Column, beside, figure, paragraph, table};
use super::chart::{Axis, Chart, Key, Mark, Point, SQUARE, Series, legend};
use super::journal::Journal;
use super::markup::Element;
use super::number::{millis, mode, significant, watts};
use super::scale::Scale;
use fulcrum_plan::{Cell, PowerMode};
use fulcrum_planner::pool::{Observation, Pool};
use fulcrum_planner::surrogate::Surrogate;
use fulcrum_planner::surrogate::clocks::{Clocks, Cube};
use fulcrum_planner::workload::Task;

/// Profiles of a slot before its first prediction: what is believed of a line through two points is
/// not worth a mark.
const SEEN_MIN: usize = 3;
/// Most profiles that are predicted one by one: a fit grows with the cube of what it is fitted to.
const PREDICTED_MAX: usize = 250;
/// Half width of the band around the diagonal.
const BAND: f64 = 0.1;

/// A prediction, and what was then measured.
#[derive(Clone, Copy, Debug)]
struct Belief {
    mode: PowerMode,
    slot: usize,
    measured: Cell,
    time_ms: f64,
    power_w: f64,
}

impl Belief {
    fn measured_ms(&self) -> f64 {
        f64::from(self.measured.time_us.0) / 1e3
    }

    fn measured_w(&self) -> f64 {
        f64::from(self.measured.power_mw.0) / 1e3
    }

    fn time_error(&self) -> f64 {
        (self.time_ms / self.measured_ms() - 1.0).abs()
    }

    fn power_error(&self) -> f64 {
        (self.power_w / self.measured_w() - 1.0).abs()
    }
}

/// One-step-ahead predictions of what was observed in `modes`, in the order it was.
fn beliefs(task: &Task, modes: &[PowerMode], all: &Pool) -> Vec<Belief> {
    if modes.is_empty() {
        return Vec::new();
    }
    let cube = Cube::of(modes);
    let clocks: Vec<Clocks> = modes.iter().map(|mode| cube.clocks(mode)).collect();
    let mut pool = Pool::new(modes.len(), all.slot_count());
    let mut seen = vec![0; all.slot_count()];
    let mut surrogate = None;
    let mut beliefs = Vec::new();
    for &(mode, slot) in all.order().iter().take(PREDICTED_MAX) {
        let Some(measured) = all.cell(mode, slot) else {
            continue;
        };
        if seen[slot] >= SEEN_MIN {
            surrogate = Surrogate::fit(task, &clocks, &pool, surrogate.as_ref());
            let believed = surrogate
                .as_ref()
                .and_then(|s| s.predict(&clocks[mode], slot));
            beliefs.extend(believed.map(|believed| Belief {
                mode: modes[mode],
                slot,
                measured,
                time_ms: believed.ln_time_ms.exp(),
                power_w: believed.power_w,
            }));
        }
        pool.record(mode, slot, Observation::Seen(measured));
        seen[slot] += 1;
    }
    beliefs
}

/// Mean of some errors as a percentage, a dash without any.
#[expect(clippy::cast_precision_loss, reason = "a count of profiles")]
fn mean(errors: impl ExactSizeIterator<Item = f64>) -> String {
    match errors.len() {
        0 => "–".to_owned(),
        count => format!("{:.1} %", errors.sum::<f64>() / count as f64 * 100.0),
    }
}

/// Colour and shape of a workload.
fn series(journal: &Journal, workload: usize) -> Series {
    Series::ordered(workload, journal.task.workloads().len())
}

/// Predicted against measured, on equal axes.
fn scatter(
    subject: &Subject,
    journal: &Journal,
    beliefs: &[Belief],
    (name, title, unit): (&str, &str, &str),
    scale: &Scale,
    place: fn(&Belief) -> (f64, f64),
) -> Element {
    let (low, high) = scale.ends();
    let wide = 1.0 + BAND;
    let mut marks = vec![
        Mark::Line((low, low), (high, high)),
        Mark::Guide((low, low * wide), (high / wide, high)),
        Mark::Guide((low * wide, low), (high, high / wide)),
    ];
    for workload in 0..journal.task.workloads().len() {
        let of_workload = beliefs
            .iter()
            .filter(|belief| journal.task.slots()[belief.slot].workload == workload);
        let point = |belief: &Belief| {
            let (x, y) = place(belief);
            Point {
                x,
                y,
                says: says(journal, belief),
            }
        };
        marks.push(Mark::Points(
            series(journal, workload),
            of_workload.map(point).collect(),
        ));
    }
    let inside = beliefs.iter().filter(|belief| {
        let (measured, believed) = place(belief);
        (believed / measured - 1.0).abs() <= BAND
    });
    let chart = Chart {
        id: format!("{}-belief-{name}", subject.id),
        title: title.to_owned(),
        description: format!(
            "{} of {} predictions lie within 10 % of the measurement.",
            inside.count(),
            beliefs.len()
        ),
        size: SQUARE,
        x: Axis::new(format!("measured, {unit}"), scale.clone()),
        y: Axis::new(format!("predicted, {unit}"), scale.clone()),
        marks,
    };
    figure(&chart, None)
}

fn says(journal: &Journal, belief: &Belief) -> String {
    format!(
        "{}, b {}: predicted {} ms, {:.1} W; measured {} ms, {} W; {}",
        journal.task.workload_of(belief.slot).name,
        journal.task.slots()[belief.slot].batch,
        significant(belief.time_ms),
        belief.power_w,
        millis(belief.measured.time_us),
        watts(belief.measured.power_mw),
        mode(&belief.mode)
    )
}

/// Mean errors of every workload, over all its predictions and over the later half.
fn errors(journal: &Journal, beliefs: &[Belief]) -> Element {
    let rows = journal.task.workloads().iter().enumerate();
    let rows = rows.map(|(index, workload)| {
        let of_workload = |belief: &&Belief| journal.task.slots()[belief.slot].workload == index;
        let all: Vec<Belief> = beliefs.iter().filter(of_workload).copied().collect();
        let later = &all[all.len() / 2..];
        vec![
            workload.name.clone(),
            all.len().to_string(),
            mean(all.iter().map(Belief::time_error)),
            mean(later.iter().map(Belief::time_error)),
            mean(all.iter().map(Belief::power_error)),
            mean(later.iter().map(Belief::power_error)),
        ]
    });
    table(
        "Mean absolute error of the prediction",
        &[
            Column::Words("workload"),
            Column::Number("predicted"),
            Column::Number("time"),
            Column::Number("later half"),
            Column::Number("power"),
            Column::Number("later half"),
        ],
        rows,
    )
}

/// The section.
#[must_use]
pub fn section(subject: &Subject) -> Vec<Element> {
    let Some(journal) = &subject.journal else {
        return vec![paragraph(
            "What the surrogate believed can be recomputed from the search's journal: give it with \
             --journal to see it here.",
        )];
    };
    let (modes, observed) = journal.pool();
    let beliefs = beliefs(&journal.task, &modes, &observed);
    if beliefs.is_empty() {
        return vec![paragraph(format!(
            "No workload and batch size was profiled more than {SEEN_MIN} times, too few to predict \
             the next."
        ))];
    }
    let times = beliefs.iter().flat_map(|b| [b.measured_ms(), b.time_ms]);
    let powers = beliefs.iter().flat_map(|b| [b.measured_w(), b.power_w]);
    let workloads = journal.task.workloads();
    let mut keys: Vec<(Key, &str)> = (0..workloads.len())
        .map(|index| {
            (
                Key::Point(series(journal, index)),
                workloads[index].name.as_str(),
            )
        })
        .collect();
    keys.extend([(Key::Line, "as measured"), (Key::Guide, "10 % off")]);
    let first = match journal.trusted().count() {
        ..=PREDICTED_MAX => String::new(),
        all => format!(" Shown are the first {PREDICTED_MAX} of {all} profiles."),
    };
    vec![
        paragraph(format!(
            "Before each profile the planner's surrogate was fitted to the profiles paid so far and \
             asked what the next would show, from the fourth of a workload and batch size on. A search \
             goes where it hopes for a gain, so its errors are not those of random modes. No answer on \
             this page rests on a prediction.{first}"
        )),
        errors(journal, &beliefs),
        legend(&keys),
        beside([
            scatter(
                subject,
                journal,
                &beliefs,
                ("time", "Time of a minibatch", "ms"),
                &Scale::logarithmic(times, 7),
                |belief| (belief.measured_ms(), belief.time_ms),
            ),
            scatter(
                subject,
                journal,
                &beliefs,
                ("power", "Power", "W"),
                &Scale::linear(powers, 6),
                |belief| (belief.measured_w(), belief.power_w),
            ),
        ]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_prediction_knows_only_what_was_paid_before() {
        let journal = sample::with_journal().1;
        let (modes, all) = journal.pool();
        let half = all.order().len() / 2;
        let mut earlier = Pool::new(modes.len(), all.slot_count());
        for &(mode, slot) in &all.order()[..half] {
            let cell = all.cell(mode, slot).unwrap();
            earlier.record(mode, slot, Observation::Seen(cell));
        }
        let predicted = |pool| -> Vec<(PowerMode, usize, u64, u64)> {
            let bits = |b: &Belief| (b.mode, b.slot, b.time_ms.to_bits(), b.power_w.to_bits());
            beliefs(&journal.task, &modes, pool)
                .iter()
                .map(bits)
                .collect()
        };
        let (all, earlier) = (predicted(&all), predicted(&earlier));
        assert!(!earlier.is_empty() && earlier.len() < all.len());
        assert_eq!(earlier, all[..earlier.len()]);
    }

    #[test]
    fn most_later_predictions_on_a_simulated_board_are_close() {
        let journal = sample::with_journal().1;
        let (modes, all) = journal.pool();
        let all = beliefs(&journal.task, &modes, &all);
        let later = &all[all.len() / 2..];
        let close =
            |error: fn(&Belief) -> f64| later.iter().filter(|belief| error(belief) < 0.25).count();
        assert!(close(Belief::time_error) * 10 > later.len() * 8);
        assert!(close(Belief::power_error) * 10 > later.len() * 9);
    }
}
