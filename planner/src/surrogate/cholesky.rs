//! Cholesky factor of a symmetric positive definite matrix, grown row by row.
//!
//! Row-major lower triangle, packed. A row costs `O(n^2)`, so a Gaussian process that gets one more
//! sample never factors from scratch.

/// Lower triangular `L` with `L L^T = A`.
#[derive(Clone, Debug, Default)]
pub struct Cholesky {
    packed: Vec<f64>,
    len: usize,
}

impl Cholesky {
    /// The factor of an empty matrix.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            packed: Vec::new(),
            len: 0,
        }
    }

    /// Rows of the matrix.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no row yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn row(&self, at: usize) -> &[f64] {
        let start = at * (at + 1) / 2;
        &self.packed[start..=start + at]
    }

    /// Appends a row of `A`: its entries against the rows before, then the diagonal. A row that is
    /// numerically dependent on the others gets the smallest pivot that keeps the factor usable.
    ///
    /// # Panics
    /// If `against` has not one entry per row.
    pub fn push(&mut self, against: &[f64], diagonal: f64) {
        assert_eq!(against.len(), self.len, "one entry per row");
        let mut row = against.to_vec();
        self.solve_lower(&mut row);
        let left = diagonal - row.iter().map(|x| x * x).sum::<f64>();
        self.packed.extend_from_slice(&row);
        self.packed.push(left.max(1e-12 * diagonal).sqrt());
        self.len += 1;
    }

    /// Solves `L x = b` in place, for the first `b.len()` rows.
    pub fn solve_lower(&self, b: &mut [f64]) {
        for at in 0..b.len() {
            let row = self.row(at);
            let sum: f64 = row[..at].iter().zip(&b[..at]).map(|(l, x)| l * x).sum();
            b[at] = (b[at] - sum) / row[at];
        }
    }

    /// Solves `L^T x = b` in place.
    ///
    /// # Panics
    /// If `b` has not one entry per row.
    pub fn solve_upper(&self, b: &mut [f64]) {
        assert_eq!(b.len(), self.len, "one entry per row");
        for at in (0..self.len).rev() {
            let row = self.row(at);
            b[at] /= row[at];
            let (before, this) = b.split_at_mut(at);
            for (x, l) in before.iter_mut().zip(&row[..at]) {
                *x -= l * this[0];
            }
        }
    }

    /// `ln det A`.
    #[must_use]
    pub fn ln_det(&self) -> f64 {
        (0..self.len)
            .map(|at| 2.0 * libm::log(self.row(at)[at]))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn solving_gives_back_what_was_multiplied() {
        for seed in 0..10 {
            let mut random = Random::new(seed, &[b"cholesky"]);
            let n = 12;
            let b: Vec<Vec<f64>> = (0..n)
                .map(|_| (0..n).map(|_| random.normal()).collect())
                .collect();
            let a = |i: usize, j: usize| {
                let product: f64 = (0..n).map(|k| b[i][k] * b[j][k]).sum();
                product + if i == j { 0.1 } else { 0.0 }
            };
            let mut factor = Cholesky::new();
            for i in 0..n {
                let against: Vec<f64> = (0..i).map(|j| a(i, j)).collect();
                factor.push(&against, a(i, i));
            }
            let x: Vec<f64> = (0..n).map(|_| random.normal()).collect();
            let mut y: Vec<f64> = (0..n)
                .map(|i| (0..n).map(|j| a(i, j) * x[j]).sum())
                .collect();
            factor.solve_lower(&mut y);
            factor.solve_upper(&mut y);
            for (found, expected) in y.iter().zip(&x) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "seed {seed}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn a_repeated_row_does_not_break_the_factor() {
        let mut factor = Cholesky::new();
        factor.push(&[], 2.0);
        factor.push(&[2.0], 2.0);
        assert!(factor.ln_det().is_finite());
        assert_eq!(factor.len(), 2);
    }
}
