//! The order in which samples are handed out.

use crate::random::Random;

/// Rounds of the Feistel network. Four make a permutation that is not told from a random one if their
/// functions are random (Luby and Rackoff); twice as many, because halves of a few bits are small.
const ROUNDS: usize = 8;

/// Indices that are computed together, most of the time a whole batch.
pub(super) const GROUP: usize = 16;

/// Numbers that go through the network side by side, so that a processor does not wait for each step of one.
const LANES: usize = 4;

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
/// holds every index, walked until it gives one that exists (at most four times on average). Only its functions are
/// in a table, eight times as many numbers as half the bits hold, which a new epoch fills: for a million samples
/// 16 KiB in some 20 µs. So an epoch begins without a pause for shuffling, and an order goes on at any [`Place`] at
/// once.
///
/// Which index comes when is part of what a checkpoint means: it must not change.
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
    /// Of the epoch: what each round's function gives for each half.
    functions: Vec<u16>,
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
        let half_bits = bits.max(2).div_ceil(2);
        let mut order = Self {
            count,
            half_bits,
            place,
            functions: vec![0; ROUNDS << half_bits],
        };
        order.tabulate();
        order.resume(place);
        order
    }

    /// Goes on from a place, as [`Order::at`]. Does not allocate.
    pub fn resume(&mut self, place: Place) {
        let same = (place.seed, place.epoch) == (self.place.seed, self.place.epoch);
        self.place = Place {
            position: place.position.min(self.count - 1),
            ..place
        };
        if !same {
            self.tabulate();
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

    /// The next indices. Does not allocate.
    pub fn next_indices(&mut self, mut indices: &mut [u32]) {
        while !indices.is_empty() {
            let left = (self.count - self.place.position) as usize;
            let (group, rest) = indices.split_at_mut(indices.len().min(GROUP).min(left));
            for (index, position) in group.iter_mut().zip(self.place.position..) {
                *index = position;
            }
            self.permute(group);
            self.place.position += group.len() as u32;
            if self.place.position == self.count {
                self.place.position = 0;
                self.place.epoch = self.place.epoch.wrapping_add(1);
                self.tabulate();
            }
            indices = rest;
        }
    }

    /// Makes indices of at most [`GROUP`] numbers below the count: each goes through the network until it is one.
    fn permute(&self, numbers: &mut [u32]) {
        // Where those are that do not exist yet. Kept without a branch: which ones go on is chance.
        let mut walking: [usize; GROUP] = std::array::from_fn(|place| place);
        let mut count = numbers.len();
        while count > 0 {
            let mut left = 0;
            for first in (0..count).step_by(LANES) {
                let places: [usize; LANES] =
                    std::array::from_fn(|lane| walking[(first + lane).min(count - 1)]);
                let permuted = self.permuted(places.map(|place| numbers[place]));
                for (place, number) in places.into_iter().zip(permuted).take(count - first) {
                    numbers[place] = number;
                    walking[left] = place;
                    left += usize::from(number >= self.count);
                }
            }
            count = left;
        }
    }

    /// One pass of the network: a permutation of the numbers of twice `half_bits` bits.
    fn permuted(&self, numbers: [u32; LANES]) -> [u32; LANES] {
        let mask = (1 << self.half_bits) - 1;
        let mut halves = numbers.map(|number| (number >> self.half_bits, number & mask));
        for function in self.functions.chunks_exact(1 << self.half_bits) {
            for (left, right) in &mut halves {
                let mixed = *left ^ u32::from(function[*right as usize]);
                (*left, *right) = (*right, mixed);
            }
        }
        halves.map(|(left, right)| left << self.half_bits | right)
    }

    /// Fills the table with the functions of the epoch.
    fn tabulate(&mut self) {
        // Seeds that differ by little, and epochs that do, must not meet: both go through the generator.
        let mut of_seed = Random::new(self.place.seed);
        let of_epoch = Random::new(self.place.epoch).next_bits();
        let mut random = Random::new(of_seed.next_bits() ^ of_epoch);
        let mask = (1 << self.half_bits) - 1;
        for function in self.functions.chunks_exact_mut(1 << self.half_bits) {
            let key = random.next_bits();
            for (right, value) in (0_u64..).zip(function) {
                // A half has at most 16 bits.
                *value = (Random::new(key ^ right).next_bits() & mask) as u16;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(order: &mut Order, count: usize) -> Vec<u32> {
        let mut indices = vec![0; count];
        order.next_indices(&mut indices);
        indices
    }

    /// The index at a place, one number through the network at a time, without a table.
    fn index_at(count: u32, place: Place) -> u32 {
        let mut half_bits = 1;
        while 1_u64 << (2 * half_bits) < u64::from(count) {
            half_bits += 1;
        }
        let mask = (1_u64 << half_bits) - 1;
        let seed = Random::new(place.seed).next_bits() ^ Random::new(place.epoch).next_bits();
        let mut number = u64::from(place.position);
        loop {
            let mut keys = Random::new(seed);
            let (mut left, mut right) = (number >> half_bits, number & mask);
            for _ in 0..8 {
                let function = Random::new(keys.next_bits() ^ right).next_bits();
                (left, right) = (right, left ^ (function & mask));
            }
            number = left << half_bits | right;
            if number < u64::from(count) {
                return number as u32;
            }
        }
    }

    #[test]
    fn the_order_is_the_one_that_checkpoints_of_earlier_versions_mean() {
        assert_eq!(
            next(&mut Order::new(1_437, 1), 20),
            [
                1323, 383, 263, 2, 487, 782, 0, 569, 1309, 529, 677, 1149, 218, 476, 368, 809,
                1082, 916, 1376, 390
            ]
        );
        for count in [1, 2, 4, 5, 16, 17, 31, 64, 65, 1_000, 70_000, u32::MAX] {
            let mut order = Order::new(count, 42);
            for batch in [1, 3, 4, 15, 16, 17, 50] {
                let place = order.place();
                let expected: Vec<u32> = (u64::from(place.position)..)
                    .take(batch)
                    .map(|position| Place {
                        epoch: place.epoch + position / u64::from(count),
                        position: (position % u64::from(count)) as u32,
                        ..place
                    })
                    .map(|place| index_at(count, place))
                    .collect();
                assert_eq!(next(&mut order, batch), expected, "{batch} of {count}");
            }
        }
    }

    #[test]
    fn every_epoch_is_another_permutation() {
        for seed in 0..20 {
            let mut order = Order::new(31, seed);
            let mut epochs = Vec::new();
            for number in 0..4 {
                assert_eq!(order.epoch(), number, "seed {seed}");
                let epoch = next(&mut order, 31);
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
        let order = |seed| next(&mut Order::new(100, seed), 250);
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
    }

    #[test]
    fn every_index_comes_first_about_equally_often() {
        let mut first = [0_u32; 8];
        for seed in 0..8_000 {
            first[next(&mut Order::new(8, seed), 1)[0] as usize] += 1;
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
            let permutation = next(&mut Order::new(4, seed), 4);
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
            let mut there = Order::new(count, 12);
            for _ in 0..2 * count + 3 {
                let mut resumed = Order::at(count, order.place());
                there.resume(order.place());
                let index = next(&mut order, 1);
                assert_eq!(next(&mut resumed, 1), index);
                assert_eq!(next(&mut there, 1), index);
                assert_eq!(resumed.place(), order.place());
                assert_eq!(there.place(), order.place());
            }
        }
    }

    #[test]
    fn one_sample_comes_every_time() {
        let mut order = Order::new(1, 3);
        assert_eq!(next(&mut order, 2), [0, 0]);
        assert_eq!(order.epoch(), 2);
    }
}
