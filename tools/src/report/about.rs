//! What a plan is, and the limits of what it says.

use super::Subject;
use super::blocks::{beside, paragraph};
use super::markup::Element;
use super::number::{significant, watts};
use super::question::fastest;
use fulcrum_plan::PlanTable;
use fulcrum_plan::table::Workload;
use fulcrum_plan::units::MilliWatt;
use fulcrum_planner::search::Strategy;

/// The plan's workloads as its headline.
#[must_use]
pub fn headline(plan: &PlanTable) -> String {
    let workloads = plan.train.iter().chain(&plan.infer);
    let names: Vec<&str> = workloads.map(|workload| workload.name.as_str()).collect();
    names.join(" + ")
}

fn batches(workload: &Workload) -> String {
    let batches: Vec<String> = workload.batches.iter().map(ToString::to_string).collect();
    match &batches[..] {
        [one] => format!("batch {one}"),
        many => format!("batches {}", many.join(", ")),
    }
}

/// Smallest and largest power of a plan's cells.
fn power_range(plan: &PlanTable) -> Option<(MilliWatt, MilliWatt)> {
    let cells = || plan.rows.iter().flat_map(|row| row.cells.iter().flatten());
    let low = cells().map(|cell| cell.power_mw).min()?;
    Some((low, cells().map(|cell| cell.power_mw).max()?))
}

/// A number that matters, with what it is.
fn tile(value: &str, unit: &str, what: &str) -> Element {
    Element::new("div")
        .class("tile")
        .child(Element::new("dt").text(what))
        .child(
            Element::new("dd")
                .child(Element::new("b").text(value))
                .text(format!(" {unit}")),
        )
}

fn tiles(subject: &Subject) -> Element {
    let plan = &subject.plan;
    let mut tiles = Element::new("dl").class("tiles");
    if let Some((low, high)) = power_range(plan) {
        let range = format!("{} – {}", watts(low), watts(high));
        tiles.push(tile(&range, "W", "power observed"));
    }
    let train = plan.slot_train().zip(plan.train.as_ref());
    if let Some((slot, workload)) = train {
        let batch = workload.batches.first().copied().unwrap_or(1);
        if let Some((_, cell)) = fastest(plan, slot, batch).last() {
            let rate = significant(1e6 / f64::from(cell.time_us.0));
            tiles.push(tile(&rate, "minibatches/s", "fastest training"));
        }
    }
    for (index, workload) in plan.infer.iter().enumerate() {
        let most = plan.slots_infer(index).filter_map(|(slot, batch)| {
            let cell = fastest(plan, slot, batch).last()?.1;
            Some(f64::from(batch) * 1e6 / f64::from(cell.time_us.0))
        });
        let what = format!("most of {}", workload.name);
        tiles.push(tile(
            &significant(most.fold(0.0, f64::max)),
            "requests/s",
            &what,
        ));
    }
    let runs = plan.provenance.profiles.to_string();
    let what = match &subject.journal {
        Some(journal) => format!("profiles paid, in {} modes", journal.mode_count()),
        None => "profiles paid".to_owned(),
    };
    tiles.push(tile(&runs, "runs", &what));
    tiles.push(tile(&plan.rows.len().to_string(), "modes", "worth keeping"));
    tiles
}

fn facts(subject: &Subject) -> Element {
    let plan = &subject.plan;
    let mut facts = Element::new("dl").class("facts");
    let mut fact = |name: &str, text: String| {
        facts.push(Element::new("dt").text(name));
        facts.push(Element::new("dd").text(text));
    };
    fact("Board", format!("{} ({})", subject.board_title, plan.board));
    if let Some(train) = &plan.train {
        fact("Training", format!("{}, {}", train.name, batches(train)));
    }
    for (index, infer) in plan.infer.iter().enumerate() {
        let name = match (index, plan.infer.len()) {
            (0, 2) => "Urgent inference",
            (1, 2) => "Other inference",
            _ => "Inference",
        };
        fact(name, format!("{}, {}", infer.name, batches(infer)));
    }
    let from = &plan.provenance;
    fact("Search", format!("{}, seed {}", from.strategy, from.seed));
    if let Some((unspent, most)) = unspent(plan) {
        let paid = from.profiles;
        fact(
            "Profiles",
            format!("{paid} of at most {most}: {unspent} unspent"),
        );
    }
    if let Some((_, margin)) = from
        .strategy
        .rsplit_once('+')
        .filter(|s| s.1.ends_with('%'))
    {
        let text = format!("the plan counts every time and power as {margin} larger than measured");
        fact("Margin", text);
    }
    fact("Measurements", format!("checksum {:08x}", from.inputs_crc));
    if let Some(journal) = &subject.journal {
        fact("Measured with", journal.source.clone());
    }
    fact("File", subject.file.clone());
    facts
}

/// Profiles that a search with a limit left unspent, and the limit.
fn unspent(plan: &PlanTable) -> Option<(u32, u32)> {
    let name = plan.provenance.strategy.split('+').next()?;
    let strategy: Strategy = name.parse().ok()?;
    // The limit of a search for one demand counts modes.
    let most = strategy
        .limit
        .filter(|_| !strategy.kind.is_for_one_demand())?;
    let unspent = most.checked_sub(plan.provenance.profiles)?;
    (unspent > 0).then_some((unspent, most))
}

/// What no number of the page should be taken for.
const LIMITS: [&str; 3] = [
    "Every time and power here was observed in the mode it stands beside, in one run: a median over \
     minibatches. Nothing is interpolated. A budget gets the best observed mode that fits it, or no \
     answer.",
    "A mode that was never profiled may be better than any shown here; the page cannot know.",
    "While workloads take turns on the board their times add up, and the power is the larger of theirs. \
     Peak latency is the time to gather a batch and run it, without network or preprocessing.",
];

/// The section.
#[must_use]
pub fn section(subject: &Subject) -> Vec<Element> {
    let limits = LIMITS.map(|limit| Element::new("li").text(limit));
    let limits = Element::new("div")
        .child(Element::new("h4").text("What this page does and does not say"))
        .child(Element::new("ul").class("limits").children(limits))
        .child(
            paragraph(
                "Power is that of the whole module. A point tells its numbers when it is pointed at; \
                 the tables have them too.",
            )
            .class("hint"),
        );
    vec![tiles(subject), beside([facts(subject), limits])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn what_a_search_left_unspent_is_said() {
        let mut plan = sample::plan();
        let paid = plan.provenance.profiles;
        let mut with = |strategy: &str| {
            plan.provenance.strategy = strategy.try_into().unwrap();
            unspent(&plan)
        };
        assert_eq!(
            with(&format!("als:{}+prior+1%", paid + 7)),
            Some((7, paid + 7))
        );
        assert_eq!(with(&format!("als:{paid}")), None);
        assert_eq!(with("gmd:1000"), None);
        assert_eq!(with("maxn"), None);
    }
}
