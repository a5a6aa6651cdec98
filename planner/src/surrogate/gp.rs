//! Gaussian process regression: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006),
//! algorithm 2.1, equation 5.8. The samples may be of any type; a [`Kernel`] gives their covariance.

use super::cholesky::Cholesky;

/// Covariance of two samples of a zero-mean process.
pub trait Kernel<X> {
    /// What the covariance of two inputs is made of and is the same for every kernel of this kind, such as
    /// their distance: worked out once for all kernels that are compared.
    fn common(a: &X, b: &X) -> f64;
    /// Covariance of the process at two inputs, without noise; `common` is what they have in common.
    fn covariance(&self, a: &X, b: &X, common: f64) -> f64;
    /// Variance of the noise of a sample at an input.
    fn noise(&self, a: &X) -> f64;
}

/// Matérn 5/2 at a scaled distance (ibid., equation 4.17).
#[must_use]
pub fn matern52(distance: f64) -> f64 {
    let d = 5f64.sqrt() * distance;
    (1.0 + d + d * d / 3.0) * libm::exp(-d)
}

/// A process after its samples.
#[derive(Clone, Debug)]
pub struct Process<X, K> {
    kernel: K,
    inputs: Vec<X>,
    factor: Cholesky,
    /// `A^-1 y`.
    weights: Vec<f64>,
    ln_likelihood: f64,
}

impl<X, K: Kernel<X>> Process<X, K> {
    /// Conditions on samples the one of some kernels that makes them likeliest, of equals the first; `None`
    /// without a kernel.
    #[must_use]
    pub fn fit(
        kernels: impl IntoIterator<Item = K>,
        inputs: Vec<X>,
        values: &[f64],
    ) -> Option<Self> {
        let common: Vec<Vec<f64>> = inputs
            .iter()
            .enumerate()
            .map(|(at, input)| {
                let others = inputs[..=at].iter();
                others.map(|other| K::common(input, other)).collect()
            })
            .collect();
        let condition = |kernel: K| -> Self {
            let mut factor = Cholesky::new();
            for (at, input) in inputs.iter().enumerate() {
                let mut row: Vec<f64> = inputs[..=at]
                    .iter()
                    .zip(&common[at])
                    .map(|(other, common)| kernel.covariance(input, other, *common))
                    .collect();
                let variance = row.pop().unwrap_or_default();
                factor.push(&row, variance + kernel.noise(input));
            }
            let mut weights = values.to_vec();
            factor.solve_lower(&mut weights);
            let squares: f64 = weights.iter().map(|x| x * x).sum();
            Self {
                ln_likelihood: -0.5 * (squares + factor.ln_det()),
                kernel,
                inputs: Vec::new(),
                factor,
                weights,
            }
        };
        let fits = kernels.into_iter().map(condition);
        let mut best = fits.reduce(|best, other| {
            if other.ln_likelihood > best.ln_likelihood {
                other
            } else {
                best
            }
        })?;
        best.factor.solve_upper(&mut best.weights);
        best.inputs = inputs;
        Some(best)
    }

    /// The kernel that was chosen.
    pub const fn kernel(&self) -> &K {
        &self.kernel
    }

    /// Logarithm of the marginal likelihood, up to a constant.
    #[must_use]
    pub const fn ln_likelihood(&self) -> f64 {
        self.ln_likelihood
    }

    /// Mean and standard deviation of a new sample at an input, its noise included.
    #[must_use]
    pub fn predict(&self, input: &X) -> (f64, f64) {
        let mut against: Vec<f64> = self
            .inputs
            .iter()
            .map(|other| {
                self.kernel
                    .covariance(input, other, K::common(input, other))
            })
            .collect();
        let mean: f64 = against.iter().zip(&self.weights).map(|(k, w)| k * w).sum();
        self.factor.solve_lower(&mut against);
        let explained: f64 = against.iter().map(|x| x * x).sum();
        let alone = self
            .kernel
            .covariance(input, input, K::common(input, input));
        let left = (alone - explained).max(0.0);
        (mean, (left + self.kernel.noise(input)).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Smooth;

    impl Kernel<[f64; 2]> for Smooth {
        fn common(a: &[f64; 2], b: &[f64; 2]) -> f64 {
            let squares: f64 = a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum();
            matern52(squares.sqrt() / 0.7)
        }
        fn covariance(&self, _: &[f64; 2], _: &[f64; 2], common: f64) -> f64 {
            common
        }
        fn noise(&self, _: &[f64; 2]) -> f64 {
            1e-6
        }
    }

    #[test]
    fn samples_are_reproduced_and_certain_and_far_points_are_not() {
        let f = |p: &[f64; 2]| libm::sin(3.0 * p[0]) * libm::cos(2.0 * p[1]);
        let inputs: Vec<[f64; 2]> = (0..30)
            .map(|i| [f64::from(i % 6) / 5.0, f64::from(i / 6) / 4.0])
            .collect();
        let values: Vec<f64> = inputs.iter().map(f).collect();
        let process = Process::fit([Smooth], inputs.clone(), &values).unwrap();
        for (input, value) in inputs.iter().zip(&values) {
            let (mean, sigma) = process.predict(input);
            assert!(
                (mean - value).abs() < 1e-3 && sigma < 3e-3,
                "{mean} {value} {sigma}"
            );
        }
        let between = [0.5, 0.6];
        let (mean, sigma) = process.predict(&between);
        assert!((mean - f(&between)).abs() < 0.03, "{mean} {}", f(&between));
        let (_, far) = process.predict(&[3.0, 3.0]);
        assert!(far > 0.9 && far > 5.0 * sigma);
    }

    #[test]
    fn the_true_length_is_more_likely_than_a_wrong_one() {
        struct Length(f64);
        impl Kernel<f64> for Length {
            fn common(a: &f64, b: &f64) -> f64 {
                (a - b).abs()
            }
            fn covariance(&self, _: &f64, _: &f64, distance: f64) -> f64 {
                matern52(distance / self.0)
            }
            fn noise(&self, _: &f64) -> f64 {
                1e-4
            }
        }
        let inputs: Vec<f64> = (0..20).map(|i| f64::from(i) / 4.0).collect();
        let values: Vec<f64> = inputs.iter().map(|x| libm::sin(*x)).collect();
        let lengths = [0.05, 1.5, 100.0].map(Length);
        let process = Process::fit(lengths, inputs, &values).unwrap();
        assert_eq!(process.kernel.0, 1.5);
    }
}
