//! The order in which samples are handed out.

/// An endless sequence of indices: each epoch is a permutation of all of them, a new one each time.
///
/// Fisher-Yates, one exchange per index, so that no epoch begins with a pause for shuffling. The memory is
/// taken once.
///
/// # References
/// - R. Durstenfeld, *Algorithm 235: Random permutation*, CACM 7(7), 1964, doi:10.1145/364520.364540.
/// - G. Steele, D. Lea, C. Flood, *Fast splittable pseudorandom number generators*, OOPSLA 2014,
///   doi:10.1145/2660193.2660195: SplitMix64.
#[derive(Debug)]
pub struct Order {
    indices: Vec<u32>,
    position: usize,
    epoch: u64,
    random: SplitMix64,
}

impl Order {
    /// The sequence of `0..count` that `seed` gives. `count` is at least 1 in a file that opened; for 0 the
    /// sequence is all zeros.
    #[must_use]
    pub fn new(count: u32, seed: u64) -> Self {
        Self {
            indices: (0..count.max(1)).collect(),
            position: 0,
            epoch: 0,
            random: SplitMix64(seed),
        }
    }

    /// Epochs completed.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The next index. Constant time; does not allocate.
    pub fn next_index(&mut self) -> u32 {
        let left = self.indices.len() - self.position;
        self.indices
            .swap(self.position, self.position + self.random.below(left));
        let index = self.indices[self.position];
        self.position += 1;
        if self.position == self.indices.len() {
            self.position = 0;
            self.epoch = self.epoch.wrapping_add(1);
        }
        index
    }
}

/// A generator of 64-bit numbers with a 64-bit state.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is at least 1. Some come up more often than others by at most
    /// `limit` / 2^64.
    fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next_u64()) * limit as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // First outputs of the reference implementation (Vigna, splitmix64.c) from state 1234567.
        let mut random = SplitMix64(1_234_567);
        let first = [random.next_u64(), random.next_u64(), random.next_u64()];
        let reference = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(first, reference);
    }

    #[test]
    fn every_epoch_is_another_permutation() {
        for seed in 0..20 {
            let mut order = Order::new(31, seed);
            let mut epochs = Vec::new();
            for number in 0..4 {
                assert_eq!(order.epoch(), number, "seed {seed}");
                let epoch: Vec<u32> = (0..31).map(|_| order.next_index()).collect();
                let mut sorted = epoch.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..31).collect::<Vec<u32>>(), "seed {seed}");
                epochs.push(epoch);
            }
            epochs.dedup();
            assert_eq!(epochs.len(), 4, "seed {seed}");
        }
    }

    #[test]
    fn a_seed_gives_one_order() {
        let order = |seed| {
            let mut order = Order::new(100, seed);
            (0..250).map(|_| order.next_index()).collect::<Vec<u32>>()
        };
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
    }

    #[test]
    fn every_index_comes_first_about_equally_often() {
        let mut first = [0_u32; 8];
        for seed in 0..8_000 {
            first[Order::new(8, seed).next_index() as usize] += 1;
        }
        // Expected 1000 each; five standard deviations are 148.
        assert!(
            first.iter().all(|&n| (852..=1148).contains(&n)),
            "{first:?}"
        );
    }

    #[test]
    fn one_sample_comes_every_time() {
        let mut order = Order::new(1, 3);
        assert_eq!([order.next_index(), order.next_index()], [0, 0]);
        assert_eq!(order.epoch(), 2);
    }
}
