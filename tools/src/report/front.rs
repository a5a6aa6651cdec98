//! The front: what time a watt buys, one chart for training and one per batch size of inference.

use super::Subject;
use super::blocks::{beside, figure, paragraph};
use super::chart::{Axis, Chart, FULL, Key, Mark, Point, SMALL, Series, legend};
use super::markup::Element;
use super::number::{millis, mode, percent, significant, watts};
use super::question::fastest;
use super::scale::Scale;
use fulcrum_plan::{Cell, PowerMode};

fn watts_of(cell: &Cell) -> f64 {
    f64::from(cell.power_mw.0) / 1e3
}

fn millis_of(cell: &Cell) -> f64 {
    f64::from(cell.time_us.0) / 1e3
}

fn per_second(cell: &Cell) -> f64 {
    1e3 / millis_of(cell)
}

/// Cells of a slot, by how much they matter.
struct Cells {
    /// Every trusted profile, if a journal was given.
    profiled: Vec<Cell>,
    /// What the plan holds and no budget selects for this slot alone.
    kept: Vec<(PowerMode, Cell)>,
    /// What some budget selects, ascending in power.
    selected: Vec<(PowerMode, Cell)>,
}

impl Cells {
    fn of(subject: &Subject, slot: usize, batch: u16) -> Self {
        let selected = fastest(&subject.plan, slot, batch);
        let rows = subject.plan.rows.iter();
        let kept = rows
            .filter_map(|row| Some((row.mode, *row.cell(slot)?)))
            .filter(|kept| !selected.contains(kept))
            .collect();
        let profiled = subject.journal.iter().flat_map(|journal| {
            let of_slot = journal.trusted().filter(|profile| profile.slot == slot);
            of_slot.map(|profile| profile.measurement.cell)
        });
        Self {
            profiled: profiled.collect(),
            kept,
            selected,
        }
    }

    fn all(&self) -> impl Iterator<Item = Cell> + '_ {
        let planned = self.kept.iter().chain(&self.selected);
        self.profiled
            .iter()
            .copied()
            .chain(planned.map(|(_, cell)| *cell))
    }
}

fn marks(cells: &Cells, height: fn(&Cell) -> f64) -> Vec<Mark> {
    let series = Series::ONLY;
    let point = |(of_mode, cell): &(PowerMode, Cell)| Point {
        x: watts_of(cell),
        y: height(cell),
        says: format!(
            "{} ms at {} W: {}",
            millis(cell.time_us),
            watts(cell.power_mw),
            mode(of_mode)
        ),
    };
    let place = |cell: &Cell| (watts_of(cell), height(cell));
    vec![
        Mark::Dots(cells.profiled.iter().map(place).collect()),
        Mark::Steps(
            series,
            cells.selected.iter().map(|(_, cell)| place(cell)).collect(),
        ),
        Mark::Hollow(series, cells.kept.iter().map(point).collect()),
        Mark::Points(series, cells.selected.iter().map(point).collect()),
    ]
}

fn legend_of(subject: &Subject) -> Element {
    let series = Series::ONLY;
    let mut entries = vec![
        (Key::Step(series), "what a budget selects"),
        (Key::Point(series), "mode that some budget selects"),
        (Key::Hollow(series), "other mode of the plan"),
    ];
    if subject.journal.is_some() {
        entries.push((Key::Dot, "profiled, not kept"));
    }
    legend(&entries)
}

/// What the training front says in a few sentences.
fn reading(front: &[(PowerMode, Cell)]) -> Vec<Element> {
    let (Some((_, least)), Some((_, most))) = (front.first(), front.last()) else {
        return vec![paragraph("No mode of the plan was measured in training.")];
    };
    let top = per_second(most);
    let share = |part: f64| {
        let enough = front
            .iter()
            .find(|(_, cell)| per_second(cell) >= part * top);
        let cell = enough.map_or(most, |(_, cell)| cell);
        let saved = 1.0 - watts_of(cell) / watts_of(most);
        format!(
            "{} of the top speed costs {} W: {} less power.",
            percent(per_second(cell) / top),
            watts(cell.power_mw),
            percent(saved)
        )
    };
    let mut lines = vec![
        format!(
            "The least that trains at all: {} W, {} minibatches per second.",
            watts(least.power_mw),
            significant(per_second(least))
        ),
        format!(
            "The most: {} minibatches per second at {} W. No mode of the plan is faster.",
            significant(top),
            watts(most.power_mw)
        ),
    ];
    if front.len() > 2 {
        lines.extend([share(0.9), share(0.5)]);
    }
    let items = lines.into_iter().map(|line| Element::new("li").text(line));
    vec![Element::new("ul").class("reading").children(items)]
}

fn training(subject: &Subject) -> Option<Element> {
    let plan = &subject.plan;
    let (slot, workload) = plan.slot_train().zip(plan.train.as_ref())?;
    let batch = workload.batches.first().copied()?;
    let cells = Cells::of(subject, slot, batch);
    let mut marks = marks(&cells, per_second);
    if let Some((_, cell)) = cells.selected.last() {
        let text = format!("{}/s", significant(per_second(cell)));
        marks.push(Mark::Note(watts_of(cell), per_second(cell), text));
    }
    let chart = Chart {
        id: format!("{}-front-train", subject.id),
        title: format!("Training {}: throughput against power", workload.name),
        description: format!(
            "{} modes lie on the front, from {} to {}.",
            cells.selected.len(),
            cells.selected.first().map_or_else(String::new, says),
            cells.selected.last().map_or_else(String::new, says)
        ),
        size: FULL,
        x: Axis::new(
            "power, W",
            Scale::linear(cells.all().map(|cell| watts_of(&cell)), 7),
        ),
        y: Axis::new(
            "minibatches per second",
            Scale::from_zero(cells.all().map(|cell| per_second(&cell)), 6),
        ),
        marks,
    };
    let words = Element::new("div")
        .child(legend_of(subject))
        .children(reading(&cells.selected));
    Some(beside([figure(&chart, None), words]))
}

fn says((_, cell): &(PowerMode, Cell)) -> String {
    format!(
        "{} per second at {} W",
        significant(per_second(cell)),
        watts(cell.power_mw)
    )
}

/// One small chart per batch size, all on the same axes.
fn inference(subject: &Subject, which: usize) -> Element {
    let plan = &subject.plan;
    let name = plan.infer[which].name.as_str();
    let slots: Vec<(u16, Cells)> = plan
        .slots_infer(which)
        .map(|(slot, batch)| (batch, Cells::of(subject, slot, batch)))
        .collect();
    let all = || slots.iter().flat_map(|(_, cells)| cells.all());
    let x = Scale::linear(all().map(|cell| watts_of(&cell)), 4);
    let y = Scale::logarithmic(all().map(|cell| millis_of(&cell)), 7);
    let charts = slots.iter().map(|(batch, cells)| {
        let chart = Chart {
            id: format!("{}-front-infer{which}-{batch}", subject.id),
            title: format!("batch {batch}"),
            description: format!(
                "{} modes lie on the front, from {} to {}.",
                cells.selected.len(),
                cells.selected.first().map_or_else(String::new, says),
                cells.selected.last().map_or_else(String::new, says)
            ),
            size: SMALL,
            x: Axis::new("power, W", x.clone()),
            y: Axis::new("ms per minibatch", y.clone()),
            marks: marks(cells, millis_of),
        };
        figure(&chart, None)
    });
    Element::new("div")
        .child(Element::new("h4").text(format!("Inference of {name}: time of a minibatch against power")))
        .child(paragraph(
            "Lower is better; all charts have the same logarithmic axis. Peak latency at an arrival \
             rate is this time plus the time to gather the batch.",
        ))
        .child(legend_of(subject))
        .child(Element::new("div").class("small").children(charts))
}

/// The section.
#[must_use]
pub fn section(subject: &Subject) -> Vec<Element> {
    let inference = (0..subject.plan.infer.len()).map(|which| inference(subject, which));
    training(subject).into_iter().chain(inference).collect()
}
