//! Seeded random numbers.
//!
//! One generator (xoshiro256++, `rand_xoshiro` 0.8) and a purpose per stream, so that a draw more in
//! one place moves nothing elsewhere.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};

/// FNV-1a, 64 bit: a fixed hash, unlike the standard library's, which may change between releases.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random(Xoshiro256PlusPlus);

impl Random {
    /// The stream of a purpose under a seed.
    #[must_use]
    pub fn new(seed: u64, purpose: &[&[u8]]) -> Self {
        let mut hash = FNV_OFFSET;
        let mut feed = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        for part in purpose {
            part.iter().copied().for_each(&mut feed);
            feed(0xff);
        }
        Self(Xoshiro256PlusPlus::seed_from_u64(
            hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ))
    }

    /// Uniform in `[0, 1)`, 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform below `limit`, which is not 0.
    ///
    /// The bias of a plain product is below `limit / 2^64`.
    pub fn below(&mut self, limit: usize) -> usize {
        let wide = u128::from(self.0.next_u64()) * limit as u128;
        (wide >> 64) as usize
    }

    /// Standard normal (Box-Muller; the second value is dropped, so that one call is one draw).
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform()));
        radius * libm::cos(std::f64::consts::TAU * self.uniform())
    }

    /// `count` distinct numbers below `limit`, in random order (all of them, if there are fewer).
    pub fn sample(&mut self, limit: usize, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..limit).collect();
        for at in 0..count.min(limit) {
            let other = at + self.below(limit - at);
            all.swap(at, other);
        }
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purpose_is_a_stream_of_its_own_and_a_seed_repeats_it() {
        let draw = |seed, purpose: &str| Random::new(seed, &[purpose.as_bytes()]).uniform();
        assert_eq!(draw(7, "noise"), draw(7, "noise"));
        assert_ne!(draw(7, "noise"), draw(8, "noise"));
        assert_ne!(draw(7, "noise"), draw(7, "design"));
    }

    #[test]
    fn a_sample_has_no_number_twice() {
        let mut sample = Random::new(1, &[b"sample"]).sample(100, 60);
        sample.sort_unstable();
        sample.dedup();
        assert_eq!(sample.len(), 60);
        assert_eq!(Random::new(1, &[b"sample"]).sample(5, 60).len(), 5);
    }

    #[test]
    fn normal_has_mean_0_and_variance_1() {
        let mut random = Random::new(3, &[b"normal"]);
        let draws: Vec<f64> = (0..20_000).map(|_| random.normal()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 20_000.0;
        assert!(
            mean.abs() < 0.03 && (variance - 1.0).abs() < 0.03,
            "seed 3: {mean} {variance}"
        );
    }
}
