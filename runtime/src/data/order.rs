//! The order in which samples are handed out.

use crate::random::Random;

/// Rounds of the Feistel network. Four make a permutation that is not told from a random one if their
/// functions are random (Luby and Rackoff); twice as many, because halves of a few bits are small.
const ROUNDS: usize = 8;

/// Where an order stands: all that is needed to go on from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The seed.
    pub seed: u64,
    /// Epochs completed.
    pub epoch: u64,
    /// Indices handed out in this epoch.
    pub position: u32,
}

/// An endless sequence of indices: each epoch is a permutation of all of them, a new one each time.
///
/// The permutation is computed, not stored: a Feistel network over the smallest even number of bits that
/// holds every index, walked until it gives one that exists (at most four times on average). So an epoch
/// begins without a pause for shuffling, a million samples take no more memory than ten, and an order
/// goes on at any [`Place`] at once.
///
/// # References
/// - M. Luby, C. Rackoff, *How to construct pseudorandom permutations from pseudorandom functions*, SIAM J.
///   Comput. 17(2), 1988, doi:10.1137/0217022.
/// - J. Black, P. Rogaway, *Ciphers with arbitrary finite domains*, CT-RSA 2002,
///   doi:10.1007/3-540-45760-7_9: cycle walking.
#[derive(Debug)]
pub struct Order {
    count: u32,
    half_bits: u32,
    place: Place,
    keys: [u64; ROUNDS],
}

impl Order {
    /// The sequence of `0..count` that `seed` gives. `count` is at least 1 in a file that opened; for 0 the
    /// sequence is all zeros.
    #[must_use]
    pub fn new(count: u32, seed: u64) -> Self {
        let place = Place {
            seed,
            ..Place::default()
        };
        Self::at(count, place)
    }

    /// As [`Order::new`], from a place on. A position that `count` does not have is the epoch's last.
    #[must_use]
    pub fn at(count: u32, place: Place) -> Self {
        let count = count.max(1);
        let bits = u64::BITS - u64::from(count - 1).leading_zeros();
        Self {
            count,
            half_bits: bits.max(2).div_ceil(2),
            place: Place {
                position: place.position.min(count - 1),
                ..place
            },
            keys: keys(place.seed, place.epoch),
        }
    }

    /// Epochs completed.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.place.epoch
    }

    /// Where the order stands.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.place
    }

    /// How many indices there are, at least 1.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The next index. Does not allocate.
    pub fn next_index(&mut self) -> u32 {
        let mut value = u64::from(self.place.position);
        let index = loop {
            value = self.permuted(value);
            match u32::try_from(value) {
                Ok(index) if index < self.count => break index,
                _ => {}
            }
        };
        self.place.position += 1;
        if self.place.position == self.count {
            self.place.position = 0;
            self.place.epoch = self.place.epoch.wrapping_add(1);
            self.keys = keys(self.place.seed, self.place.epoch);
        }
        index
    }

    /// One pass of the network: a permutation of the numbers of twice `half_bits` bits.
    fn permuted(&self, value: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.keys {
            let function = Random::new(key ^ right).next_bits() & mask;
            (left, right) = (right, left ^ function);
        }
        left << self.half_bits | right
    }
}

/// The functions of an epoch.
fn keys(seed: u64, epoch: u64) -> [u64; ROUNDS] {
    // Seeds that differ by little, and epochs that do, must not meet: both go through the generator.
    let mut of_seed = Random::new(seed);
    let mut random = Random::new(of_seed.next_bits() ^ Random::new(epoch).next_bits());
    std::array::from_fn(|_| random.next_bits())
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
    fn every_permutation_of_a_few_comes_about_equally_often() {
        let mut seen = std::collections::BTreeMap::new();
        for seed in 0..24_000 {
            let mut order = Order::new(4, seed);
            let permutation: Vec<u32> = (0..4).map(|_| order.next_index()).collect();
            *seen.entry(permutation).or_insert(0_u32) += 1;
        }
        assert_eq!(seen.len(), 24);
        // Expected 1000 each; five standard deviations are 155.
        assert!(seen.values().all(|n| (845..=1155).contains(n)), "{seen:?}");
    }

    #[test]
    fn an_order_goes_on_from_any_place() {
        for count in [1, 2, 3, 5, 64, 1_000] {
            let mut order = Order::new(count, 11);
            for _ in 0..2 * count + 3 {
                let mut resumed = Order::at(count, order.place());
                assert_eq!(resumed.next_index(), order.next_index());
                assert_eq!(resumed.place(), order.place());
            }
        }
    }

    #[test]
    fn one_sample_comes_every_time() {
        let mut order = Order::new(1, 3);
        assert_eq!([order.next_index(), order.next_index()], [0, 0]);
        assert_eq!(order.epoch(), 2);
    }
}
