//! Gaussian process regression: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006),
//! algorithm 2.1, equation 5.8. The samples may be of any type; a [`Kernel`] gives their covariance.

use super::cholesky::Cholesky;

/// Covariance of two samples of a zero-mean process.
pub trait Kernel<X> {
    /// Covariance of the process at two inputs, without noise.
    fn covariance(&self, a: &X, b: &X) -> f64;
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
    /// Conditions the process on samples.
    #[must_use]
    pub fn fit(kernel: K, inputs: Vec<X>, values: &[f64]) -> Self {
        let mut factor = Cholesky::new();
        for (at, input) in inputs.iter().enumerate() {
            let against: Vec<f64> = inputs[..at]
                .iter()
                .map(|other| kernel.covariance(input, other))
                .collect();
            let diagonal = kernel.covariance(input, input) + kernel.noise(input);
            factor.push(&against, diagonal);
        }
        let mut weights = values.to_vec();
        factor.solve_lower(&mut weights);
        let squares: f64 = weights.iter().map(|x| x * x).sum();
        let ln_likelihood = -0.5 * (squares + factor.ln_det());
        factor.solve_upper(&mut weights);
        Self {
            kernel,
            inputs,
            factor,
            weights,
            ln_likelihood,
        }
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
            .map(|other| self.kernel.covariance(input, other))
            .collect();
        let mean: f64 = against.iter().zip(&self.weights).map(|(k, w)| k * w).sum();
        self.factor.solve_lower(&mut against);
        let explained: f64 = against.iter().map(|x| x * x).sum();
        let left = (self.kernel.covariance(input, input) - explained).max(0.0);
        (mean, (left + self.kernel.noise(input)).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Smooth;

    impl Kernel<[f64; 2]> for Smooth {
        fn covariance(&self, a: &[f64; 2], b: &[f64; 2]) -> f64 {
            let squares: f64 = a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum();
            matern52(squares.sqrt() / 0.7)
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
        let process = Process::fit(Smooth, inputs.clone(), &values);
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
            fn covariance(&self, a: &f64, b: &f64) -> f64 {
                matern52((a - b).abs() / self.0)
            }
            fn noise(&self, _: &f64) -> f64 {
                1e-4
            }
        }
        let inputs: Vec<f64> = (0..20).map(|i| f64::from(i) / 4.0).collect();
        let values: Vec<f64> = inputs.iter().map(|x| libm::sin(*x)).collect();
        let ln = |length| Process::fit(Length(length), inputs.clone(), &values).ln_likelihood();
        assert!(ln(1.5) > ln(0.05) && ln(1.5) > ln(100.0));
    }
}
