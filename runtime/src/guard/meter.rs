//! Power as it was measured against power as it is planned: a sensor is noisy, hangs, and lies.

use super::Reading;
use fulcrum_plan::PlanTable;
use fulcrum_plan::units::MilliWatt;

/// Measured power counts as above the budget beyond this many thousandths of it: an INA3221 is accurate
/// to about 1 % (its data sheet's gain error and the shunt's tolerance).
const TOLERANCE_PER_MILLE: u64 = 10;
/// Noise of one reading in thousandths, five standard deviations (fulcrum.md, section 7: 2 %).
const NOISE_PER_MILLE: u64 = 100;
/// So many looks are averaged before an excess counts that noise could explain.
const AVERAGED_LOOKS: u64 = 32;
/// Power is judged by this many last looks, by half as many, and by the last one alone: the sooner, the larger.
const RECENT_LOOKS: usize = 4;
/// A power that is too high to be true is believed when it lasts for so many looks.
const IMPLAUSIBLE_LOOKS: u32 = 4;
/// Of its time a board has to work so many thousandths, for its power to tell of its appetite.
const BUSY_PER_MILLE: u64 = 900;

/// So many thousandths more.
const fn with(power_mw: u64, per_mille: u64) -> u64 {
    let more = power_mw.saturating_mul(per_mille).div_ceil(1_000);
    power_mw.saturating_add(more)
}

/// What was drawn at one look: sums over its readings.
#[derive(Clone, Copy, Debug)]
struct Drawn {
    readings: u64,
    drawn_mw: u64,
    peak_mw: u64,
}

impl Drawn {
    const NONE: Self = Self {
        readings: 0,
        drawn_mw: 0,
        peak_mw: 0,
    };

    const fn plus(self, other: Self) -> Self {
        Self {
            readings: self.readings.saturating_add(other.readings),
            drawn_mw: self.drawn_mw.saturating_add(other.drawn_mw),
            peak_mw: self.peak_mw.saturating_add(other.peak_mw),
        }
    }
}

/// Moving averages over up to [`AVERAGED_LOOKS`] looks.
#[derive(Clone, Copy, Debug)]
struct Average {
    looks: u64,
    drawn_mw: u64,
    planned_mw: u64,
    busy_per_mille: u64,
}

impl Average {
    const NONE: Self = Self {
        looks: 0,
        drawn_mw: 0,
        planned_mw: 0,
        busy_per_mille: 0,
    };

    fn observe(&mut self, drawn_mw: u64, planned_mw: u64, busy_per_mille: u64) {
        self.looks = self.looks.saturating_add(1).min(AVERAGED_LOOKS);
        let looks = self.looks;
        let moved = |average: u64, new: u64| {
            let kept = average.saturating_mul(looks.saturating_sub(1));
            kept.saturating_add(new).checked_div(looks).unwrap_or(new)
        };
        *self = Self {
            looks,
            drawn_mw: moved(self.drawn_mw, drawn_mw),
            planned_mw: moved(self.planned_mw, planned_mw),
            busy_per_mille: moved(self.busy_per_mille, busy_per_mille),
        };
    }

    const fn is_full(&self) -> bool {
        self.looks == AVERAGED_LOOKS
    }
}

/// The power of the row in use.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    average: Average,
    /// The last looks; the latest comes first.
    recent: [Drawn; RECENT_LOOKS],
    /// The most that work of the last look draws by the plan.
    peak_mw: u64,
    /// Looks since power was plausible.
    implausible: u32,
    /// The power that was last found too high. The very same one after a change is that of a sensor that hangs.
    excess_mw: Option<MilliWatt>,
}

impl Meter {
    /// Nothing measured yet.
    pub(super) const fn new() -> Self {
        Self {
            average: Average::NONE,
            recent: [Drawn::NONE; RECENT_LOOKS],
            peak_mw: 0,
            implausible: 0,
            excess_mw: None,
        }
    }

    /// Other clocks are set: what was measured is not theirs.
    pub(super) const fn reset(&mut self) {
        self.average = Average::NONE;
        self.recent = [Drawn::NONE; RECENT_LOOKS];
        self.peak_mw = 0;
    }

    /// Takes a reading. `None` if it says nothing: absent, of a sensor that hangs, or more than twice what it should be
    /// and not so for long.
    pub(super) fn observe(
        &mut self,
        plan: &PlanTable,
        reading: &Reading,
        elapsed_ns: u64,
    ) -> Option<MilliWatt> {
        let power_mw = reading.power_mw?;
        if self
            .excess_mw
            .is_some_and(|excess_mw| excess_mw != power_mw)
        {
            self.excess_mw = None;
        }
        if self.average.looks == 0 && self.excess_mw.is_some() {
            return None;
        }
        let most_mw = || {
            let cells = plan.rows.iter().flat_map(|row| row.cells.iter().flatten());
            cells.map(|cell| cell.power_mw).max()
        };
        let should_mw = reading.planned_mw.or_else(most_mw)?;
        if power_mw.0 <= should_mw.0.saturating_mul(2) {
            self.implausible = 0;
        } else {
            self.implausible = self.implausible.saturating_add(1);
            if self.implausible < IMPLAUSIBLE_LOOKS {
                return None;
            }
        }
        let planned_mw = reading.planned_mw.map_or(0, |planned| planned.0.into());
        let busy = reading.busy_ns.saturating_mul(1_000);
        let busy_per_mille = busy.checked_div(elapsed_ns).unwrap_or(0);
        self.average
            .observe(power_mw.0.into(), planned_mw, busy_per_mille);
        // A few readings may all be of the hungriest work, also of what was counted at the look before.
        let peak_mw = reading.peak_mw.map_or(0, |peak| peak.0.into());
        let before_mw = core::mem::replace(&mut self.peak_mw, peak_mw);
        self.recent.rotate_right(1);
        self.recent[0] = Drawn {
            readings: reading.readings,
            drawn_mw: u64::from(power_mw.0).saturating_mul(reading.readings),
            peak_mw: peak_mw.max(before_mw).saturating_mul(reading.readings),
        };
        Some(power_mw)
    }

    /// What is drawn, if it is above the budget and neither the sensor's accuracy nor its noise explains that.
    pub(super) fn excessive_mw(&self, budget_mw: u64) -> Option<u64> {
        let tolerated_mw = with(budget_mw, TOLERANCE_PER_MILLE);
        if self.average.is_full() && self.average.drawn_mw > tolerated_mw {
            return Some(self.average.drawn_mw);
        }
        let spans = [1, RECENT_LOOKS / 2, RECENT_LOOKS];
        spans.into_iter().find_map(|looks| {
            let recent = self.recent.iter().take(looks).copied();
            let sum = recent.fold(Drawn::NONE, Drawn::plus);
            let drawn_mw = sum.drawn_mw.checked_div(sum.readings)?;
            let peak_mw = sum.peak_mw.checked_div(sum.readings)?;
            // The mean of n readings has a root of n less of it.
            let root = sum.readings.saturating_mul(100).isqrt();
            let noise = NOISE_PER_MILLE.saturating_mul(10).checked_div(root)?;
            (drawn_mw > tolerated_mw.max(with(peak_mw, noise))).then_some(drawn_mw)
        })
    }

    /// The last power counted as too high.
    pub(super) const fn blame(&mut self, power_mw: Option<MilliWatt>) {
        self.excess_mw = power_mw;
    }

    /// The planned power of rows that would draw the budget, as far as this row tells: less where the board is hungrier
    /// than the plan by more than the sensor's accuracy.
    pub(super) fn fitting_mw(&self, budget_mw: u64) -> Option<u64> {
        let Average {
            drawn_mw,
            planned_mw,
            busy_per_mille,
            ..
        } = self.average;
        let tells = self.average.is_full() && busy_per_mille >= BUSY_PER_MILLE;
        let fitting_mw = planned_mw.saturating_mul(budget_mw).checked_div(drawn_mw)?;
        let fits = with(fitting_mw, TOLERANCE_PER_MILLE) >= budget_mw;
        tells.then_some(if fits { budget_mw } else { fitting_mw })
    }
}
