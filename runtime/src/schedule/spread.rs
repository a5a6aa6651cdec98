//! The longest of recent samples, and how often machine pauses come.

/// Samples of one block.
const BLOCK_SAMPLES: u32 = 128;
/// The longest samples of a block that are kept: an eighth of it.
const KEPT: usize = 16;
/// Life of a block that still gets samples: what heat did is forgotten after at most two.
const BLOCK_NS: u64 = 10_000_000_000;
/// Without a sample for so long a block is over: when an outlier leaves no room to run the work again,
/// nothing else would ever say that it was one.
const SILENCE_NS: u64 = 500_000_000;
/// A sample further above the mean than this many times what one in eight exceeds is no spread of the work
/// itself: of a normal distribution 3 in 10,000 are, of an exponential one 2 in 1,000.
const OUTLIER_FACTOR: u64 = 3;

/// Some samples in a row, the longest of them in descending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    longest_ns: [u64; KEPT],
    samples: u32,
    /// Time in which a pause of the machine would have been part of a sample.
    exposed_ns: u64,
}

impl Block {
    const EMPTY: Self = Self {
        longest_ns: [0; KEPT],
        samples: 0,
        exposed_ns: 0,
    };

    fn insert(&mut self, sample_ns: u64, exposed_ns: u64) {
        let [.., shortest_ns] = self.longest_ns;
        if sample_ns > shortest_ns {
            let mut sinking_ns = sample_ns;
            for kept_ns in &mut self.longest_ns {
                if sinking_ns > *kept_ns {
                    core::mem::swap(kept_ns, &mut sinking_ns);
                }
            }
        }
        self.samples = self.samples.saturating_add(1);
        self.exposed_ns = self.exposed_ns.saturating_add(exposed_ns);
    }

    /// What one sample in eight exceeds.
    fn body_ns(&self) -> u64 {
        let index = usize::try_from(self.samples / 8).unwrap_or(usize::MAX);
        let last = KEPT.saturating_sub(1);
        self.longest_ns.get(index.min(last)).copied().unwrap_or(0)
    }

    /// Samples that exceed the mean by at least `excess_ns` and by more than the work itself ever does.
    fn outliers(&self, mean_ns: u64, excess_ns: u64) -> u64 {
        let body_ns = self.body_ns().saturating_sub(mean_ns);
        let least_ns = excess_ns.max(body_ns.saturating_mul(OUTLIER_FACTOR));
        let outliers = self
            .longest_ns
            .iter()
            .take_while(|sample_ns| sample_ns.saturating_sub(mean_ns) > least_ns);
        outliers.count() as u64
    }
}

/// The last two blocks of samples, in constant memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spread {
    blocks: [Block; 2],
    began_ns: u64,
    seen_ns: u64,
}

impl Spread {
    pub(super) const fn new(now_ns: u64) -> Self {
        Self {
            blocks: [Block::EMPTY; 2],
            began_ns: now_ns,
            seen_ns: now_ns,
        }
    }

    /// Takes a sample into account, and the time in which a pause would have shown in it.
    pub(super) fn observe(&mut self, now_ns: u64, sample_ns: u64, exposed_ns: u64) {
        self.age(now_ns);
        self.seen_ns = now_ns;
        let [block, _] = &mut self.blocks;
        block.insert(sample_ns, exposed_ns);
        if block.samples >= BLOCK_SAMPLES {
            self.rotate(now_ns);
        }
    }

    /// Forgets what is too old.
    pub(super) const fn age(&mut self, now_ns: u64) {
        let over = now_ns.saturating_sub(self.began_ns) >= BLOCK_NS;
        if over || now_ns.saturating_sub(self.seen_ns) >= SILENCE_NS {
            self.rotate(now_ns);
        }
    }

    const fn rotate(&mut self, now_ns: u64) {
        self.blocks = [Block::EMPTY, self.blocks[0]];
        self.began_ns = now_ns;
        self.seen_ns = now_ns;
    }

    /// Samples of both blocks.
    pub(super) const fn samples(&self) -> u32 {
        let [block, before] = &self.blocks;
        block.samples.saturating_add(before.samples)
    }

    /// The longest sample that neither chance nor the pauses of `others` explain: of the blocks the longer
    /// one.
    ///
    /// One sample of a block is chance. A sample that takes more than twice the mean is excused as long as no
    /// more of them came than pauses of half that length come elsewhere in the same time. Shorter ones are
    /// not: to reckon with them costs little.
    ///
    /// And whether `others` made any difference.
    pub(super) fn tail_ns(&self, mean_ns: u64, others: &[(&Self, u64)]) -> (u64, bool) {
        let mut asked = false;
        let tails = self.blocks.iter().map(|block| {
            let unexplained = (1_u64..)
                .zip(&block.longest_ns)
                .find(|(longer, sample_ns)| {
                    let chance = 1;
                    let excess_ns = sample_ns.saturating_sub(mean_ns);
                    if *longer <= chance {
                        return false;
                    }
                    if excess_ns <= mean_ns {
                        return true;
                    }
                    asked = true;
                    let pauses = |(other, mean_ns): &(&Self, u64)| {
                        other.pauses_milli(*mean_ns, excess_ns / 2, block.exposed_ns)
                    };
                    let expected = others.iter().map(pauses).max().unwrap_or(0);
                    // Two standard deviations of a Poisson count on top.
                    let deviations = expected.saturating_mul(4_000).isqrt();
                    let explained = expected.saturating_add(deviations) / 1_000;
                    *longer > explained.saturating_add(chance)
                });
            let [.., body_ns] = block.longest_ns;
            unexplained.map_or(body_ns, |(_, sample_ns)| *sample_ns)
        });
        (tails.max().unwrap_or(0), asked)
    }

    /// Thousandths of pauses of at least this length to expect in a duration.
    fn pauses_milli(&self, mean_ns: u64, length_ns: u64, duration_ns: u64) -> u64 {
        let counted = self.blocks.iter().fold(0_u64, |sum, block| {
            sum.saturating_add(block.outliers(mean_ns, length_ns))
        });
        let [block, before] = &self.blocks;
        let exposed_ns = block.exposed_ns.saturating_add(before.exposed_ns);
        let scaled = u128::from(counted.saturating_mul(1_000)).saturating_mul(duration_ns.into());
        let expected = scaled.checked_div(exposed_ns.into()).unwrap_or(0);
        u64::try_from(expected).unwrap_or(u64::MAX)
    }
}
