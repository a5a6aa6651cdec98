//! Medians and spreads of integer samples.

/// The median and the interquartile range, both rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Half of the samples are at most this.
    pub median: u32,
    /// Third quartile minus first quartile.
    pub spread: u32,
}

/// Summarizes samples, in any order; `None` of none.
#[must_use]
pub fn summarize(samples: &mut [u32]) -> Option<Summary> {
    samples.sort_unstable();
    Some(Summary {
        median: quantile(samples, 2)?,
        spread: quantile(samples, 3)?.saturating_sub(quantile(samples, 1)?),
    })
}

/// The quartile `quarter` of 4 of sorted samples: linear between neighbours, rounded up.
fn quantile(sorted: &[u32], quarter: usize) -> Option<u32> {
    let position = quarter * sorted.len().checked_sub(1)?;
    let (index, part) = (position / 4, position % 4);
    let low = u64::from(*sorted.get(index)?);
    let high = u64::from(*sorted.get(index + 1).unwrap_or(&0)).max(low);
    u32::try_from(low + ((high - low) * part as u64).div_ceil(4)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(samples: &[u32]) -> Option<(u32, u32)> {
        summarize(&mut samples.to_vec()).map(|found| (found.median, found.spread))
    }

    #[test]
    fn medians_and_quartiles_are_those_of_the_textbook_rounded_up() {
        assert_eq!(summary(&[]), None);
        assert_eq!(summary(&[7]), Some((7, 0)));
        assert_eq!(summary(&[4, 1]), Some((3, 2))); // 2.5; quartiles 1.75 and 3.25, each rounded up
        assert_eq!(summary(&[5, 1, 3]), Some((3, 2)));
        assert_eq!(summary(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), Some((5, 4)));
        assert_eq!(summary(&[u32::MAX, u32::MAX]), Some((u32::MAX, 0)));
    }

    #[test]
    fn a_spike_moves_neither() {
        let mut samples = vec![1_000; 39];
        samples.push(1_500);
        assert_eq!(summary(&samples), Some((1_000, 0)));
    }
}
