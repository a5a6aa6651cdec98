//! When a board's power has settled after a change: detected, not slept. Reads no clock, does no I/O.
//!
//! Clocks settle within milliseconds (jetson.md 4.1), but what is read is slower: an INA3221 averages
//! up to 512 conversions, and leakage follows temperature. Power has settled when two neighbouring
//! windows of samples have the same mean, to within what noise explains. For an exponential approach
//! with a time constant below half a window, the rest of the way is then below the tolerance too.

use fulcrum_plan::units::MilliWatt;

/// Samples per window.
pub const WINDOW_SAMPLES: usize = 10;
/// Means that differ by less than this part of a thousand are the same. Samples with a noise of 2 %
/// (fulcrum.md 7) give window means that differ by 9 per mille (standard deviation).
const TOLERANCE_PER_MILLE: u64 = 15;
/// Means that differ by less than this are the same, whatever their size: two steps of an INA3221 with
/// a shunt of 5 mΩ at 5 V.
const TOLERANCE_MW: u64 = 80;

/// Detects that power has settled. Samples must be at least one `update_interval` of the sensor apart:
/// a repeated reading is no new evidence.
#[derive(Clone, Debug, Default)]
pub struct Settling {
    samples: heapless::Deque<u32, { 2 * WINDOW_SAMPLES }>,
}

impl Settling {
    /// Starts anew: after a change of clocks or of the workload.
    pub fn restart(&mut self) {
        self.samples.clear();
    }

    /// Takes one sample; an absent one starts anew. Returns the settled power: the mean of the later
    /// window, rounded up.
    pub fn sample(&mut self, power: Option<MilliWatt>) -> Option<MilliWatt> {
        let Some(power) = power else {
            self.restart();
            return None;
        };
        if self.samples.is_full() {
            self.samples.pop_front();
        }
        // There is room now.
        let _ = self.samples.push_back(power.0);
        if !self.samples.is_full() {
            return None;
        }
        let sum = |samples: &mut dyn Iterator<Item = &u32>| -> u64 {
            samples.map(|mw| u64::from(*mw)).sum()
        };
        let earlier = sum(&mut self.samples.iter().take(WINDOW_SAMPLES));
        let later = sum(&mut self.samples.iter().skip(WINDOW_SAMPLES));
        let count = WINDOW_SAMPLES as u64;
        let difference = earlier.abs_diff(later);
        let settled = difference.saturating_mul(1000) <= later.saturating_mul(TOLERANCE_PER_MILLE)
            || difference <= TOLERANCE_MW.saturating_mul(count);
        let mean = u32::try_from(later.div_ceil(count)).ok()?;
        settled.then_some(MilliWatt(mean))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uniform noise in -1..1 from a linear congruential generator (Knuth, MMIX).
    fn noise(state: &mut u64) -> f64 {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    #[test]
    fn an_exponential_approach_settles_near_its_end_and_soon_after() {
        for seed in 1..=200u64 {
            let state = &mut { seed };
            let from_mw = 8_000.0 + 4_000.0 * noise(state);
            let to_mw = 30_000.0 + 20_000.0 * noise(state);
            // Up to half a window, in samples.
            let tau = 1.0 + 4.0 * noise(state).abs();
            let mut settling = Settling::default();
            let found = (0..400).find_map(|n| {
                let clean = to_mw + (from_mw - to_mw) * (-f64::from(n) / tau).exp();
                // Uniform with a standard deviation of 1 %.
                let noisy = clean * (1.0 + 0.01 * 3f64.sqrt() * noise(state));
                let power = settling.sample(MilliWatt::measured_w(noisy / 1e3))?;
                Some((n, power))
            });
            let (n, power) = found.unwrap_or_else(|| panic!("seed {seed}: never settled"));
            let error = (f64::from(power.0) - to_mw).abs() / to_mw;
            assert!(error < 0.03, "seed {seed}: {power} for {to_mw} mW");
            assert!(n < 100, "seed {seed}: {n} samples");
        }
    }

    #[test]
    fn a_ramp_does_not_settle() {
        let mut settling = Settling::default();
        // 1 % of the first sample each time, thus 5 to 10 % per window.
        for n in 0..100u32 {
            let power = Some(MilliWatt(10_000 + 100 * n));
            assert_eq!(settling.sample(power), None, "sample {n}");
        }
    }

    #[test]
    fn a_missing_sample_starts_anew() {
        let mut settling = Settling::default();
        let steady = Some(MilliWatt(5_000));
        for _ in 0..2 * WINDOW_SAMPLES - 1 {
            assert_eq!(settling.sample(steady), None);
        }
        assert_eq!(settling.sample(None), None);
        for _ in 0..2 * WINDOW_SAMPLES - 1 {
            assert_eq!(settling.sample(steady), None);
        }
        assert_eq!(settling.sample(steady), steady);
    }
}
