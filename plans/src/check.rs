//! One named rule per invariant of a plan (invariant I2: a plan that decodes has passed them all).

use crate::board::{Board, ModeError};
use crate::table::{PlanTable, Workload};

/// A rule that a plan broke, with what is needed to find the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// The plan is for the board it is checked against.
    Board,
    /// There is at least one workload.
    AnyWorkload,
    /// Names are not empty and of printable ASCII.
    Name,
    /// Batch sizes are strictly ascending, from 1; a training workload has exactly one.
    Batches,
    /// There is at least one row.
    AnyRow,
    /// A row has one slot per workload and batch size, and at least one of them is filled.
    Slots,
    /// Times and powers are not zero.
    Cell,
    /// Rows are strictly ascending by (smallest power, mode).
    RowsSorted,
    /// No mode stands in two rows; holds the other row.
    ModeUnique(usize),
    /// Every clock of the row is on the board.
    ModeOnBoard(ModeError),
    /// All GPU clocks are of one table: a board has the clocks of one firmware at a time.
    GpuTable,
    /// No other row answers every question of this row as well; holds the row that does.
    NotDominated(usize),
}

impl Rule {
    /// The rule's name, as `fulcrum check` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Board => "board",
            Self::AnyWorkload => "any-workload",
            Self::Name => "name",
            Self::Batches => "batches",
            Self::AnyRow => "any-row",
            Self::Slots => "slots",
            Self::Cell => "cell",
            Self::RowsSorted => "rows-sorted",
            Self::ModeUnique(_) => "mode-unique",
            Self::ModeOnBoard(_) => "mode-on-board",
            Self::GpuTable => "gpu-table",
            Self::NotDominated(_) => "not-dominated",
        }
    }
}

/// Which rule is broken, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckError {
    /// The rule.
    pub rule: Rule,
    /// Index of the row, counted from 0, for rules about rows.
    pub row: Option<usize>,
}

impl core::fmt::Display for CheckError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "rule `{}`", self.rule.name())?;
        if let Some(row) = self.row {
            write!(f, ", row {row}")?;
        }
        f.write_str(": ")?;
        match self.rule {
            Rule::Board => f.write_str("the plan is for another board"),
            Rule::AnyWorkload => f.write_str("the plan has no workload"),
            Rule::Name => f.write_str("a name is empty or not printable ASCII"),
            Rule::Batches => {
                f.write_str("batch sizes must ascend from 1, and training has exactly one")
            }
            Rule::AnyRow => f.write_str("the plan has no row"),
            Rule::Slots => f.write_str("one slot per workload and batch size, one of them filled"),
            Rule::Cell => f.write_str("a time or a power is zero"),
            Rule::RowsSorted => f.write_str("rows must ascend by smallest power, then mode"),
            Rule::ModeUnique(other) => write!(f, "the same mode as row {other}"),
            Rule::ModeOnBoard(what) => write!(f, "the board does not have {what}"),
            Rule::GpuTable => f.write_str("GPU clocks of two firmware generations in one plan"),
            Rule::NotDominated(other) => write!(f, "row {other} is at least as good everywhere"),
        }
    }
}

impl core::error::Error for CheckError {}

const fn plan_error(rule: Rule) -> CheckError {
    CheckError { rule, row: None }
}

const fn row_error(rule: Rule, row: usize) -> CheckError {
    CheckError {
        rule,
        row: Some(row),
    }
}

/// Checks every rule, in the order of [`Rule`].
///
/// # Errors
/// The first rule that is broken, with the first row that breaks it.
pub fn check(plan: &PlanTable, board: &Board) -> Result<(), CheckError> {
    if plan.board != board.name {
        return Err(plan_error(Rule::Board));
    }
    check_workloads(plan)?;
    check_cells(plan)?;
    check_order(plan)?;
    check_clocks(plan, board)?;
    check_dominance(plan)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn ascending(batches: &[u16]) -> bool {
    batches.first().is_some_and(|first| *first > 0) && batches.is_sorted_by(|low, high| low < high)
}

fn check_workloads(plan: &PlanTable) -> Result<(), CheckError> {
    if plan.train.is_none() && plan.infer.is_empty() {
        return Err(plan_error(Rule::AnyWorkload));
    }
    let mut names = plan
        .train
        .iter()
        .chain(&plan.infer)
        .map(|workload| workload.name.as_str());
    if !names.all(is_name) || !is_name(&plan.board) || !is_name(&plan.provenance.strategy) {
        return Err(plan_error(Rule::Name));
    }
    let one_batch = |workload: &Workload| workload.batches.len() == 1;
    let ascend = plan
        .train
        .iter()
        .chain(&plan.infer)
        .all(|workload| ascending(&workload.batches));
    if !ascend || !plan.train.as_ref().is_none_or(one_batch) {
        return Err(plan_error(Rule::Batches));
    }
    Ok(())
}

fn check_cells(plan: &PlanTable) -> Result<(), CheckError> {
    if plan.rows.is_empty() {
        return Err(plan_error(Rule::AnyRow));
    }
    for (index, row) in plan.rows.iter().enumerate() {
        if row.cells.len() != plan.slot_count() || row.power_min().is_none() {
            return Err(row_error(Rule::Slots, index));
        }
        if row
            .cells
            .iter()
            .flatten()
            .any(|cell| cell.time_us.0 == 0 || cell.power_mw.0 == 0)
        {
            return Err(row_error(Rule::Cell, index));
        }
    }
    Ok(())
}

fn check_order(plan: &PlanTable) -> Result<(), CheckError> {
    let mut before = None;
    for (index, row) in plan.rows.iter().enumerate() {
        let key = Some((row.power_min(), row.mode));
        if key <= before {
            return Err(row_error(Rule::RowsSorted, index));
        }
        before = key;
        let earlier = plan
            .rows
            .iter()
            .take(index)
            .position(|other| other.mode == row.mode);
        if let Some(other) = earlier {
            return Err(row_error(Rule::ModeUnique(other), index));
        }
    }
    Ok(())
}

fn check_clocks(plan: &PlanTable, board: &Board) -> Result<(), CheckError> {
    let mut tables = u8::MAX;
    for (index, row) in plan.rows.iter().enumerate() {
        if let Err(error) = board.check_mode(&row.mode) {
            return Err(row_error(Rule::ModeOnBoard(error), index));
        }
        tables &= board.gpu_tables_with(row.mode.gpu_khz);
        if tables == 0 {
            return Err(row_error(Rule::GpuTable, index));
        }
    }
    Ok(())
}

fn check_dominance(plan: &PlanTable) -> Result<(), CheckError> {
    for (index, row) in plan.rows.iter().enumerate() {
        let mut others = plan.rows.iter().enumerate().filter(|(at, _)| *at != index);
        if let Some((at, _)) = others.find(|(_, other)| other.covers(row)) {
            return Err(row_error(Rule::NotDominated(at), index));
        }
    }
    Ok(())
}
