//! How much power selection may use: the budget, or less after a violation, and the way back.

use super::meter::Meter;
use super::{PERIOD_NS, Reading, Reason};
use fulcrum_plan::units::MilliWatt;

/// Time in peace before the cap climbs. A guess: a board's case takes about half a minute to cool.
pub const CALM_NS: u64 = 30 * PERIOD_NS;
/// Longest wait before a climb, after relapses. A relapse lasts for a look or two; not to climb back costs
/// training, or requests.
const CALM_NS_MAX: u64 = 2 * CALM_NS;
/// Least step.
const STEP_MW: u32 = 250;
/// After over-current or heat, where no measured excess says how far to go: nine tenths.
const CUT_PER_MILLE: u64 = 900;

/// The cap of one run.
#[derive(Clone, Debug)]
pub(super) struct Cap {
    budget_mw: MilliWatt,
    present_mw: MilliWatt,
    /// Time in peace since the last move, and relapses in a row.
    calm_ns: u64,
    relapses: u32,
    /// What it was before its last move, if that was upwards.
    climbed_from_mw: Option<MilliWatt>,
    /// Power of the row in which a budget was violated last, and whether it was that of power.
    wrong_mw: MilliWatt,
    hungry: bool,
    /// When over-current or heat counted last.
    cut_ns: Option<u64>,
    /// Whether requests are missed.
    starved: bool,
}

impl Cap {
    /// The budget.
    pub(super) const fn new(budget_mw: MilliWatt) -> Self {
        Self {
            budget_mw,
            present_mw: budget_mw,
            calm_ns: 0,
            relapses: 0,
            climbed_from_mw: None,
            wrong_mw: MilliWatt(0),
            hungry: false,
            cut_ns: None,
            starved: false,
        }
    }

    pub(super) const fn power_mw(&self) -> MilliWatt {
        self.present_mw
    }

    pub(super) fn is_lowered(&self) -> bool {
        self.present_mw < self.budget_mw
    }

    /// Whether requests are missed, so that the way back is urgent.
    pub(super) const fn starve(&mut self, missed: bool) {
        self.starved = missed;
    }

    /// Moves after a look in a row of some power; `power_mw` is what [`Meter::observe`] made of the reading.
    /// Tells why it moved.
    pub(super) fn observe(
        &mut self,
        (now_ns, elapsed_ns): (u64, u64),
        row_mw: MilliWatt,
        power_mw: Option<MilliWatt>,
        reading: &Reading,
        meter: &mut Meter,
    ) -> Option<Reason> {
        let budget_mw = u64::from(self.budget_mw.0);
        let row_mw = row_mw.min(self.present_mw);
        let excessive_mw = power_mw.and_then(|_| meter.excessive_mw(budget_mw));
        let (target_mw, reason) = if let Some(drawn_mw) = excessive_mw {
            let excess_mw = drawn_mw.saturating_sub(budget_mw);
            // What fits if every row draws as many times the plan's power as was measured.
            let fitting_mw = reading.planned_mw.and_then(|planned| {
                let scaled = u64::from(planned.0).saturating_mul(budget_mw);
                scaled.checked_div(drawn_mw)
            });
            let target_mw = u64::from(row_mw.0).saturating_sub(excess_mw);
            let target_mw = target_mw.min(fitting_mw.unwrap_or(target_mw));
            (target_mw, Reason::Power)
        } else if reading.over_current || reading.hot {
            let settles_ns = self.cut_ns.map(|cut_ns| cut_ns.saturating_add(PERIOD_NS));
            if settles_ns.is_some_and(|settles_ns| now_ns < settles_ns) {
                return None;
            }
            let reason = if reading.over_current {
                Reason::OverCurrent
            } else {
                Reason::Heat
            };
            let target_mw = u64::from(row_mw.0).saturating_mul(CUT_PER_MILLE) / 1_000;
            (target_mw, reason)
        } else {
            if self.hungry && power_mw.is_none() {
                return None;
            }
            return self.climb(elapsed_ns, meter);
        };
        self.hungry = reason == Reason::Power;
        self.cut_ns = (!self.hungry).then_some(now_ns);
        meter.blame(power_mw.filter(|_| self.hungry));
        self.lower(
            MilliWatt(u32::try_from(target_mw).unwrap_or(u32::MAX)),
            row_mw,
        );
        Some(reason)
    }

    fn lower(&mut self, target_mw: MilliWatt, row_mw: MilliWatt) {
        let least_mw = MilliWatt(row_mw.0.saturating_sub(STEP_MW));
        self.wrong_mw = row_mw;
        self.present_mw = target_mw.min(least_mw);
        if let Some(before_mw) = self.climbed_from_mw.take() {
            // Soon after a climb: that was too far.
            if self.calm_ns < self.calm_needed_ns() {
                self.relapses = self.relapses.saturating_add(1);
                self.present_mw = self.present_mw.min(before_mw);
            } else {
                self.relapses = 0;
            }
        }
        self.calm_ns = 0;
    }

    /// How long there has to be peace before a climb.
    fn calm_needed_ns(&self) -> u64 {
        let doubled = CALM_NS.checked_shl(self.relapses).unwrap_or(CALM_NS_MAX);
        let needed_ns = doubled.min(CALM_NS_MAX);
        if self.starved {
            needed_ns / 3
        } else {
            needed_ns
        }
    }

    /// Peace: after enough of it the way back, all and half of it in turn, or as far as is known to fit.
    fn climb(&mut self, elapsed_ns: u64, meter: &Meter) -> Option<Reason> {
        self.calm_ns = self.calm_ns.saturating_add(elapsed_ns);
        let missing_mw = self.budget_mw.0.saturating_sub(self.present_mw.0);
        let step_mw = match self.relapses.is_multiple_of(2) {
            true => missing_mw,
            false => missing_mw.div_ceil(2).max(STEP_MW).min(missing_mw),
        };
        let next_mw = self.present_mw.0.saturating_add(step_mw);
        let fitting_mw = meter.fitting_mw(self.budget_mw.0.into());
        let fitting_mw = fitting_mw.and_then(|mw| u32::try_from(mw).ok());
        let (target_mw, needed_ns) = match fitting_mw.filter(|_| self.hungry) {
            Some(fitting_mw) if self.relapses == 0 => (fitting_mw, 0),
            Some(fitting_mw) => (fitting_mw, self.calm_needed_ns()),
            // Only what went wrong before takes longer.
            None if next_mw < self.wrong_mw.0 => (next_mw, self.calm_needed_ns().min(CALM_NS)),
            None => (next_mw, self.calm_needed_ns()),
        };
        let step_mw = target_mw.saturating_sub(self.present_mw.0);
        if step_mw < STEP_MW.min(missing_mw).max(1) || self.calm_ns < needed_ns {
            return None;
        }
        self.calm_ns = 0;
        if self.climbed_from_mw.replace(self.present_mw).is_some() {
            // The climb before this one was not too far.
            self.relapses = 0;
        }
        self.present_mw = MilliWatt(target_mw);
        Some(Reason::Calm)
    }
}
