//! The standard normal distribution.

/// Density.
#[must_use]
pub fn density(z: f64) -> f64 {
    libm::exp(-0.5 * z * z) / (2.0 * std::f64::consts::PI).sqrt()
}

/// Probability of at most `z`.
#[must_use]
pub fn probability(z: f64) -> f64 {
    0.5 * libm::erfc(-z / std::f64::consts::SQRT_2)
}

/// Expected excess of a normal variable over a threshold: `E[max(X - threshold, 0)]`, the expected
/// improvement of Jones, Schonlau and Welch (1998), DOI 10.1023/A:1008306431147, equation 15.
#[must_use]
pub fn expected_excess(mean: f64, sigma: f64, threshold: f64) -> f64 {
    let margin = mean - threshold;
    if sigma <= 0.0 {
        return margin.max(0.0);
    }
    let z = margin / sigma;
    (margin * probability(z) + sigma * density(z)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert!((probability(1.96) - 0.975_002).abs() < 1e-6);
        assert!((density(0.0) - 0.398_942).abs() < 1e-6);
        assert!((expected_excess(0.0, 1.0, 0.0) - 0.398_942).abs() < 1e-6);
        assert!((expected_excess(3.0, 0.0, 1.0) - 2.0).abs() < 1e-12);
        assert!(expected_excess(-9.0, 1.0, 0.0) < 1e-15);
    }
}
