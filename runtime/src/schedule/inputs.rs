//! What the scheduler sees at one instant.

use fulcrum_plan::units::MilliRps;

/// A change of mode that waits for its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// How long the change keeps the loop from working.
    pub cost_ns: u64,
    /// Whether a budget is violated until it is done.
    pub urgent: bool,
}

/// What the scheduler sees at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Requests that wait.
    pub pending: usize,
    /// Arrival of the oldest of them.
    pub oldest_ns: Option<u64>,
    /// Non-urgent requests that wait.
    pub bulk_pending: usize,
    /// Arrival of the oldest of them.
    pub bulk_oldest_ns: Option<u64>,
    /// Present arrival rate, as far as known.
    pub rate: MilliRps,
    /// A change of mode that waits.
    pub switch: Option<Switch>,
}

impl Inputs {
    /// Arrival of the oldest request, if one waits.
    pub(super) fn oldest_waiting_ns(&self) -> Option<u64> {
        self.oldest_ns.filter(|_| self.pending > 0)
    }

    /// How long the oldest request has waited; zero if none waits.
    pub(super) fn waited_ns(&self, now_ns: u64) -> u64 {
        let oldest_ns = self.oldest_waiting_ns();
        oldest_ns.map_or(0, |oldest_ns| now_ns.saturating_sub(oldest_ns))
    }
}
