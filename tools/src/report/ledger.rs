//! What was spent: every profile in the order it was paid.

use super::Subject;
use super::blocks::{Column, MODE, beside, details, figure, paragraph, table};
use super::chart::{Axis, Chart, FULL, Key, Mark, Point, Series, Size, legend};
use super::journal::{Journal, Outcome, Profile};
use super::markup::Element;
use super::number::{millis, mode, mode_cells, watts};
use super::scale::Scale;
use fulcrum_planner::profile::Fault;
use fulcrum_planner::workload::Role;

/// Most profiles that are listed one by one; a page with more would be slow on a phone.
const LISTED_MAX: usize = 1000;

fn reason(fault: Fault) -> &'static str {
    match fault {
        Fault::Clocks => "discarded: a clock was not as asked",
        Fault::OverCurrent => "discarded: over-current",
        Fault::Thermal => "discarded: thermal limit",
        _ => "discarded",
    }
}

/// A slot's name beside a chart.
fn short(journal: &Journal, slot: usize) -> String {
    let task = &journal.task;
    let batch = task.slots()[slot].batch;
    if task.workload_of(slot).role == Role::Train {
        return "train".to_owned();
    }
    let other = task.slots_infer(1);
    match (other.is_empty(), other.contains(&slot)) {
        (true, _) => format!("b {batch}"),
        (false, false) => format!("urgent b {batch}"),
        (false, true) => format!("other b {batch}"),
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Trusted { is_in_plan: true } => "in plan",
        Outcome::Trusted { is_in_plan: false } => "covered",
        Outcome::Discarded(fault) => reason(fault),
    }
}

fn lanes(subject: &Subject, journal: &Journal) -> Chart {
    let slots = journal.task.slots().len();
    let point = |(number, profile): (u32, &Profile)| Point {
        x: f64::from(number),
        // The first slot is the topmost row.
        y: (profile.slot + 1..slots).fold(0.0, |row, _| row + 1.0),
        says: format!(
            "{number}: {} in {}: {} ms, {} W, {}",
            short(journal, profile.slot),
            mode(&profile.mode),
            millis(profile.measurement.cell.time_us),
            watts(profile.measurement.cell.power_mw),
            outcome(profile.outcome)
        ),
    };
    let of = |wanted: fn(&Outcome) -> bool| -> Vec<Point> {
        let numbered = (1u32..).zip(&journal.profiles);
        let chosen = numbered.filter(|(_, profile)| wanted(&profile.outcome));
        chosen.map(point).collect()
    };
    let kept = of(|outcome| *outcome == Outcome::Trusted { is_in_plan: true });
    let dropped = of(|outcome| *outcome == Outcome::Trusted { is_in_plan: false });
    let discarded = of(|outcome| matches!(outcome, Outcome::Discarded(_)));
    let description = format!(
        "{} profiles in the plan, {} that another mode covers, {} discarded.",
        kept.len(),
        dropped.len(),
        discarded.len()
    );
    let rows = Axis {
        title: "workload and batch size".to_owned(),
        scale: Scale::rows(slots),
        names: (0..slots).rev().map(|slot| short(journal, slot)).collect(),
    };
    let last = (1u32..).zip(&journal.profiles).last().map_or(1, |(n, _)| n);
    #[expect(clippy::cast_precision_loss, reason = "at most 17 slots")]
    let height = 80.0 + 24.0 * slots as f64;
    Chart {
        id: format!("{}-ledger", subject.id),
        title: "Profiles in the order they were paid".to_owned(),
        description,
        size: Size { height, ..FULL },
        x: Axis::new(
            "number of the profile",
            Scale::from_zero([f64::from(last)], 8),
        ),
        y: rows,
        marks: vec![
            Mark::Hollow(Series::ONLY, dropped),
            Mark::Points(Series::ONLY, kept),
            Mark::Crosses(discarded),
        ],
    }
}

/// How many profiles each slot got, and what became of them.
fn counts(journal: &Journal) -> Element {
    let row = |slot: usize| {
        let of_slot = || journal.profiles.iter().filter(move |p| p.slot == slot);
        let count = |wanted: fn(&Outcome) -> bool| {
            of_slot().filter(|p| wanted(&p.outcome)).count().to_string()
        };
        let workload = journal.task.workload_of(slot);
        vec![
            format!("{}, b {}", workload.name, journal.task.slots()[slot].batch),
            of_slot().count().to_string(),
            count(|o| *o == Outcome::Trusted { is_in_plan: true }),
            count(|o| *o == Outcome::Trusted { is_in_plan: false }),
            count(|o| matches!(o, Outcome::Discarded(_))),
        ]
    };
    table(
        "Profiles by workload and batch size",
        &[
            Column::Words("workload"),
            Column::Number("paid"),
            Column::Number("in plan"),
            Column::Number("covered"),
            Column::Number("discarded"),
        ],
        (0..journal.task.slots().len()).map(row),
    )
}

const LIST: [Column<'static>; 5] = [
    Column::Number("no."),
    Column::Words("slot"),
    Column::Number("time ms"),
    Column::Number("power W"),
    Column::Words("outcome"),
];

fn list<'a>(
    journal: &'a Journal,
    caption: &str,
    profiles: impl Iterator<Item = (usize, &'a Profile)>,
) -> Element {
    let row = |(number, profile): (usize, &Profile)| {
        let mut row = vec![
            number.to_string(),
            short(journal, profile.slot),
            millis(profile.measurement.cell.time_us),
            watts(profile.measurement.cell.power_mw),
            outcome(profile.outcome).to_owned(),
        ];
        row.extend(mode_cells(&profile.mode));
        row
    };
    table(caption, &[&LIST[..], &MODE].concat(), profiles.map(row))
}

/// The section.
#[must_use]
pub fn section(subject: &Subject) -> Vec<Element> {
    let Some(journal) = &subject.journal else {
        return vec![paragraph(format!(
            "The plan says that {} profiles were paid. Which ones is in the search's journal: give it \
             with --journal to see them here.",
            subject.plan.provenance.profiles
        ))];
    };
    let numbered = || (1..).zip(&journal.profiles);
    let discarded = || numbered().filter(|(_, p)| matches!(p.outcome, Outcome::Discarded(_)));
    let all = journal.profiles.len();
    let key = legend(&[
        (Key::Point(Series::ONLY), "in the plan"),
        (
            Key::Hollow(Series::ONLY),
            "covered: another mode is as good in every question",
        ),
        (Key::Cross, "discarded"),
    ]);
    let mut blocks = vec![
        paragraph(format!(
            "{all} runs in {} modes; {} discarded.",
            journal.mode_count(),
            discarded().count()
        )),
        beside([figure(&lanes(subject, journal), Some(key)), counts(journal)]),
    ];
    if discarded().next().is_some() {
        blocks.push(list(
            journal,
            "Discarded profiles",
            discarded().take(LISTED_MAX),
        ));
    }
    let summary = match all {
        0..=LISTED_MAX => format!("All {all} profiles"),
        _ => format!("The first {LISTED_MAX} of {all} profiles"),
    };
    let every = list(journal, "Profiles in order", numbered().take(LISTED_MAX));
    blocks.push(details(&summary, every));
    blocks
}
