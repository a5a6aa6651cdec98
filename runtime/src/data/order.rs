//! The order in which samples are handed out.

use crate::random::Random;

/// An endless sequence of indices: each epoch is a permutation of all of them, a new one each time.
///
/// Fisher-Yates, one exchange per index, so that no epoch begins with a pause for shuffling. The memory is
/// taken once.
///
/// # References
/// - R. Durstenfeld, *Algorithm 235: Random permutation*, CACM 7(7), 1964, doi:10.1145/364520.364540.
#[derive(Debug)]
pub struct Order {
    indices: Vec<u32>,
    position: usize,
    epoch: u64,
    random: Random,
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
            random: Random::new(seed),
        }
    }

    /// Epochs completed.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The next index. Constant time; does not allocate.
    pub fn next_index(&mut self) -> u32 {
        let left = (self.indices.len() - self.position) as u64;
        // Below `left`, which is a length: it fits.
        let offset = self.random.below(left) as usize;
        self.indices.swap(self.position, self.position + offset);
        let index = self.indices[self.position];
        self.position += 1;
        if self.position == self.indices.len() {
            self.position = 0;
            self.epoch = self.epoch.wrapping_add(1);
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
