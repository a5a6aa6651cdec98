//! `fulcrum report`: a plan as one page for people, readable offline, on a phone and in the dark.
//!
//! - [`page`]: the document; [`about`], [`front`], [`answers`], [`ledger`], [`belief`]: its sections;
//! - [`question`], [`budgets`]: what is asked of the plan, answered by `fulcrum_plan::select` alone;
//! - [`journal`]: what the search paid for, checked to belong to the plan;
//! - [`chart`], [`scale`], [`ticks`], [`spread`]: charts as inline SVG;
//! - [`markup`], [`blocks`], [`number`]: HTML that escapes what it is given, tables, numbers.
//!
//! # Invariants
//! - What a budget selects is what `select` answers (`question::tests::between_two_steps_…`).
//! - No name becomes markup (`markup::tests::no_text_and_no_attribute_becomes_markup`).
//! - Same plans and journals, same bytes: no clock, no path but the names of the files.

pub mod about;
pub mod answers;
pub mod belief;
pub mod blocks;
pub mod budgets;
pub mod chart;
pub mod front;
pub mod journal;
pub mod ledger;
pub mod markup;
pub mod number;
pub mod page;
pub mod question;
#[cfg(test)]
pub(crate) mod sample;
pub mod scale;
pub mod spread;
pub mod ticks;

use fulcrum_plan::PlanTable;
use journal::Journal;

/// A plan with all that is known of it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Identifier in the page, unique.
    pub id: String,
    /// Name of the plan's file.
    pub file: String,
    /// The plan.
    pub plan: PlanTable,
    /// Its board's name for people.
    pub board_title: String,
    /// What its search paid for.
    pub journal: Option<Journal>,
}
