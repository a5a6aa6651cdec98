//! Whether a sensor still measures, or repeats what it read before.
//!
//! A chip that hangs goes on answering with its last values (jetson.md 1.8: a reading is a register, not a
//! measurement). What is live carries noise in its last digit, so a value that repeats for long is no
//! value. The voltages and currents of one chip are judged together: a rail that is off reads zero forever.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Equal readings that are no chance: a guess as to how quiet an idle board can be.
const READINGS_MIN: u32 = 20;
/// Shortest time that they must span: shorter than any profile samples (2 s until power has settled, and
/// 3 s of measuring), so that no profile is made of a sensor that hangs.
const SPAN_MIN_MS: u64 = 4_000;
/// The same in updates of the chip: until the next one it has nothing new to say.
const SPAN_MIN_UPDATES: u64 = 10;

/// How long a sensor has given the value that it gives now.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    /// The value plus one; zero before the first.
    value: AtomicU64,
    since_ms: AtomicU64,
    readings: AtomicU32,
}

impl Freshness {
    /// Takes a reading at a time.
    pub(super) fn observe(&self, value: u64, now_ms: u64) {
        let value = value.wrapping_add(1);
        if self.value.swap(value, Ordering::Relaxed) == value {
            let readings = self.readings.load(Ordering::Relaxed);
            self.readings
                .store(readings.saturating_add(1), Ordering::Relaxed);
        } else {
            self.since_ms.store(now_ms, Ordering::Relaxed);
            self.readings.store(1, Ordering::Relaxed);
        }
    }

    /// Whether it repeats itself, for a chip with a new value each `update_ms`; `None` before the first
    /// reading.
    pub(super) fn is_stale(&self, now_ms: u64, update_ms: u64) -> Option<bool> {
        let readings = self.readings.load(Ordering::Relaxed);
        let span_ms = now_ms.saturating_sub(self.since_ms.load(Ordering::Relaxed));
        let span_min_ms = SPAN_MIN_MS.max(update_ms.saturating_mul(SPAN_MIN_UPDATES));
        (readings > 0).then_some(readings >= READINGS_MIN && span_ms >= span_min_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When a sensor that repeats itself each `period_ms` is found out.
    fn found_ms(period_ms: u64, update_ms: u64) -> u64 {
        let sensor = Freshness::default();
        assert_eq!(sensor.is_stale(0, update_ms), None);
        let mut times = (0..).map(|reading: u64| reading * period_ms);
        let found = times.find(|now_ms| {
            sensor.observe(7, *now_ms);
            sensor.is_stale(*now_ms, update_ms) == Some(true)
        });
        found.unwrap()
    }

    #[test]
    fn a_value_that_repeats_is_found_by_count_and_by_time() {
        assert_eq!(found_ms(100, 1), 4_000, "a profile");
        assert_eq!(found_ms(500, 1), 19 * 500, "the watcher");
        assert_eq!(
            found_ms(100, 1_000),
            10_000,
            "a chip that averages for long"
        );
    }

    #[test]
    fn a_new_value_is_fresh_whatever_came_before() {
        let sensor = Freshness::default();
        for reading in 0..100 {
            sensor.observe(7, reading * 1_000);
        }
        assert_eq!(sensor.is_stale(99_000, 1), Some(true));
        sensor.observe(8, 100_000);
        assert_eq!(sensor.is_stale(100_000, 1), Some(false));
        for reading in 0..1_000 {
            sensor.observe(reading % 2, 100_000 + reading * 100);
            assert_eq!(sensor.is_stale(100_000 + reading * 100, 1), Some(false));
        }
    }
}
