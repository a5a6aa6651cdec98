//! When to look for drift, and when to stop fighting it. Reads no clock and does no I/O.
//!
//! nvpmodel, jetson_clocks, udev scripts and `systemctl isolate` change clocks behind our back
//! (jetson.md 4.5). One such event is mended by applying the mode again. Something that keeps coming
//! back is another program with its own idea of the clocks: after [`REAPPLY_MAX`] re-applications within
//! [`WINDOW_NS`] the board is [`Reaction::Contested`], which is for the guard and for people to settle.

use super::settings::Drift;

/// Time between two looks; a change is noticed within twice that.
pub const PERIOD_NS: u64 = 1_000_000_000;
/// Re-applications within [`WINDOW_NS`] before the watch gives up. A guess: `nvpower.sh` runs a few
/// times in a row when udev replays its events at boot.
pub const REAPPLY_MAX: u8 = 3;
/// How long a re-application counts.
pub const WINDOW_NS: u64 = 60_000_000_000;

/// What to do about what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The board is as it was set.
    Steady,
    /// Apply the mode again.
    Reapply,
    /// Something keeps changing the board: leave it alone and report.
    Contested,
}

/// The watch over one board.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    looked_ns: Option<u64>,
    /// Times of the last re-applications.
    reapplied_ns: heapless::Deque<u64, { REAPPLY_MAX as usize }>,
}

impl Watch {
    /// Whether it is time to read the board (`Jetson::verify`).
    #[must_use]
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.looked_ns
            .is_none_or(|looked_ns| now_ns.saturating_sub(looked_ns) >= PERIOD_NS)
    }

    /// Takes note of what was read.
    pub fn observe(&mut self, now_ns: u64, drift: Drift) -> Reaction {
        self.looked_ns = Some(now_ns);
        while self
            .reapplied_ns
            .front()
            .is_some_and(|then_ns| now_ns.saturating_sub(*then_ns) > WINDOW_NS)
        {
            self.reapplied_ns.pop_front();
        }
        if !drift.any() {
            return Reaction::Steady;
        }
        match self.reapplied_ns.push_back(now_ns) {
            Ok(()) => Reaction::Reapply,
            Err(_full) => Reaction::Contested,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIFTED: Drift = Drift {
        cores: false,
        cpu: true,
        gpu: false,
        emc: false,
    };

    #[test]
    fn a_change_is_noticed_within_two_seconds() {
        // A loop that comes by every 0.3 s; the board is changed right after a look.
        for changed_ns in (0..3_000_000_000u64).step_by(100_000_000) {
            let mut watch = Watch::default();
            let noticed_ns = (0..)
                .map(|tick: u64| tick * 300_000_000)
                .find(|now_ns| {
                    let drift = if *now_ns > changed_ns {
                        DRIFTED
                    } else {
                        Drift::default()
                    };
                    watch.is_due(*now_ns) && watch.observe(*now_ns, drift) != Reaction::Steady
                })
                .unwrap();
            assert!(noticed_ns - changed_ns < 2_000_000_000, "{changed_ns}");
        }
    }

    #[test]
    fn a_fight_is_given_up_and_taken_up_again_later() {
        let mut watch = Watch::default();
        let mut reactions = (0..6u64).map(|second| watch.observe(second * PERIOD_NS, DRIFTED));
        for _ in 0..REAPPLY_MAX {
            assert_eq!(reactions.next(), Some(Reaction::Reapply));
        }
        assert!(reactions.all(|reaction| reaction == Reaction::Contested));
        let later_ns = WINDOW_NS + 6 * PERIOD_NS;
        assert_eq!(watch.observe(later_ns, DRIFTED), Reaction::Reapply);
    }

    #[test]
    fn single_events_are_mended_forever() {
        let mut watch = Watch::default();
        for hour in 0..1000u64 {
            let now_ns = hour * 3600 * 1_000_000_000;
            assert_eq!(watch.observe(now_ns, DRIFTED), Reaction::Reapply);
            assert_eq!(
                watch.observe(now_ns + PERIOD_NS, Drift::default()),
                Reaction::Steady
            );
        }
    }
}
