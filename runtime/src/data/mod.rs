//! Training data: a file of samples in memory, handed out in shuffled batches without allocating.
//!
//! - [`records`]: the file, checked when it is opened;
//! - [`held_out`]: samples that training never sees;
//! - [`order`]: the order of the samples, a new one each epoch, from a seed.

mod error;
mod format;
pub mod held_out;
mod mapping;
pub mod order;
pub mod records;

use crate::engine::Targets;
pub use error::{DataError, DataProblem};
pub use format::LabelKind;
pub use held_out::HeldOut;
pub use order::Place;
use order::{GROUP, Order};
pub use records::Records;

/// Endless shuffled batches from a file of samples: every sample once per epoch.
#[derive(Debug)]
pub struct Batches {
    records: Records,
    checksum: u32,
    order: Order,
}

impl Batches {
    /// Batches of these samples in the order that `seed` gives.
    #[must_use]
    pub fn new(records: Records, seed: u64) -> Self {
        let count = records.count();
        Self::of_first(records, count, seed)
    }

    /// As [`Batches::new`], of the first `count` samples only: the others are kept for other uses.
    #[must_use]
    pub fn of_first(records: Records, count: u32, seed: u64) -> Self {
        let order = Order::new(count.min(records.count()), seed);
        let checksum = records.checksum();
        Self {
            records,
            checksum,
            order,
        }
    }

    /// Goes on from a place that [`Batches::place`] gave. Does not allocate.
    pub fn resume(&mut self, place: Place) {
        self.order.resume(place);
    }

    /// Where the order stands.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.order.place()
    }

    /// How many samples are handed out per epoch.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.order.count()
    }

    /// CRC-32/ISCSI of the samples' file.
    #[must_use]
    pub const fn checksum(&self) -> u32 {
        self.checksum
    }

    /// The samples.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Epochs completed.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.order.epoch()
    }

    /// Fills a batch: as many samples as `x` has room for, and their labels. Does not allocate.
    ///
    /// `x` is row-major, batch first; [`Records::expect_elements`] checks at start that its samples have the
    /// size of these. Classes go to classes as they are, one or several, to values as numbers;
    /// [`Records::expect_labels`] checks that, too.
    pub fn fill(&mut self, x: &mut [f32], y: Targets<'_>) {
        match y {
            Targets::Classes(y) => self.fill_both(x, y, |records, index, label| {
                copy(label, records.classes(index));
            }),
            Targets::Values(y) => self.fill_both(x, y, |records, index, label| {
                copy(label, records.values(index));
            }),
        }
    }

    fn fill_both<T>(
        &mut self,
        x: &mut [f32],
        y: &mut [T],
        copy_label: impl Fn(&Records, u32, &mut [T]),
    ) {
        let elements = self.records.elements();
        let per_label = (y.len() / (x.len() / elements).max(1)).max(1);
        let groups = x.chunks_mut(GROUP * elements);
        for (x, y) in groups.zip(y.chunks_mut(GROUP * per_label)) {
            let mut indices = [0; GROUP];
            let indices = &mut indices[..x.len() / elements];
            self.order.next_indices(indices);
            self.records.touch(indices.iter().copied());
            let samples = x.chunks_exact_mut(elements);
            let labelled = samples.zip(y.chunks_exact_mut(per_label));
            for ((sample, label), &index) in labelled.zip(&*indices) {
                self.records.copy_sample(index, sample);
                copy_label(&self.records, index, label);
            }
        }
    }
}

fn copy<T>(to: &mut [T], from: impl Iterator<Item = T>) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = from;
    }
}

#[cfg(test)]
mod tests {
    use super::records::tests::encoded;
    use super::*;

    #[test]
    fn an_epoch_hands_out_every_sample_once_with_its_label() {
        let samples: Vec<(i64, [f32; 2])> = (0..10_u8)
            .map(|i| (i64::from(i % 3), [f32::from(i), 0.5]))
            .collect();
        let records = Records::decode(encoded(3, 2, &samples)).unwrap();
        let mut batches = Batches::new(records, 42);
        let mut seen = Vec::new();
        for _ in 0..5 {
            let (mut x, mut y) = ([0.0; 4], [0; 2]);
            batches.fill(&mut x, Targets::Classes(&mut y));
            for (sample, label) in x.chunks(2).zip(y) {
                assert_eq!(sample[1], 0.5);
                assert_eq!(label, sample[0] as i64 % 3);
                seen.push(sample[0] as u8);
            }
        }
        assert_eq!(batches.epoch(), 1);
        assert_ne!(seen, (0..10).collect::<Vec<u8>>(), "seed 42 shuffles");
        seen.sort_unstable();
        assert_eq!(seen, (0..10).collect::<Vec<u8>>());
    }

    #[test]
    fn samples_that_are_kept_back_are_never_handed_out() {
        let samples: Vec<(i64, [f32; 1])> = (0..10_u8).map(|i| (0, [f32::from(i)])).collect();
        let records = Records::decode(encoded(1, 1, &samples)).unwrap();
        let mut batches = Batches::of_first(records, 8, 42);
        for _ in 0..100 {
            let (mut x, mut y) = ([0.0], [0]);
            batches.fill(&mut x, Targets::Classes(&mut y));
            assert!(x[0] < 8.0, "{}", x[0]);
        }
        assert_eq!(batches.epoch(), 12);
    }

    #[test]
    fn a_label_becomes_a_value_for_float_targets() {
        let records = Records::decode(encoded(9, 1, &[(8, [0.0])])).unwrap();
        let (mut x, mut y) = ([1.0], [0.0]);
        Batches::new(records, 0).fill(&mut x, Targets::Values(&mut y));
        assert_eq!((x, y), ([0.0], [8.0]));
    }
}
