//! Gaussian process regression: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006),
//! algorithm 2.1.

use super::cholesky::Cholesky;

/// A point of the input space: cores and three clocks, each as a logarithm scaled to 0..=1.
pub type Point = [f64; 4];

/// Prior of a process: a constant, a plane, and a smooth residual.
#[derive(Clone, Copy, Debug)]
pub struct Prior {
    /// Variance of the constant.
    pub constant: f64,
    /// Variance of each slope of the plane.
    pub slope: f64,
    /// Variance of the residual.
    pub residual: f64,
    /// Length over which the residual changes, per dimension.
    pub length: Point,
    /// Variance of the noise of a sample.
    pub noise: f64,
}

impl Prior {
    /// Covariance of two points, without noise.
    #[must_use]
    pub fn covariance(&self, a: &Point, b: &Point) -> f64 {
        let mut plane = 0.0;
        let mut distance = 0.0;
        for ((x, y), length) in a.iter().zip(b).zip(&self.length) {
            plane += x * y;
            distance += (x - y) * (x - y) / (length * length);
        }
        self.constant + self.slope * plane + self.residual * libm::exp(-0.5 * distance)
    }
}

/// A process after its samples.
#[derive(Clone, Debug)]
pub struct Process {
    prior: Prior,
    points: Vec<Point>,
    factor: Cholesky,
    /// `A^-1 (y - mean)`.
    weights: Vec<f64>,
    mean: f64,
}

impl Process {
    /// Conditions a prior on samples `(point, value)`.
    #[must_use]
    pub fn fit(prior: Prior, samples: &[(Point, f64)]) -> Self {
        let points: Vec<Point> = samples.iter().map(|sample| sample.0).collect();
        let mean = samples.iter().map(|s| s.1).sum::<f64>() / samples.len().max(1) as f64;
        let mut factor = Cholesky::new();
        for (at, point) in points.iter().enumerate() {
            let against: Vec<f64> = points[..at]
                .iter()
                .map(|other| prior.covariance(point, other))
                .collect();
            factor.push(&against, prior.covariance(point, point) + prior.noise);
        }
        let mut weights: Vec<f64> = samples.iter().map(|sample| sample.1 - mean).collect();
        factor.solve_lower(&mut weights);
        factor.solve_upper(&mut weights);
        Self {
            prior,
            points,
            factor,
            weights,
            mean,
        }
    }

    /// Mean and standard deviation at a point.
    #[must_use]
    pub fn predict(&self, point: &Point) -> (f64, f64) {
        let mut against: Vec<f64> = self
            .points
            .iter()
            .map(|other| self.prior.covariance(point, other))
            .collect();
        let mean: f64 = against.iter().zip(&self.weights).map(|(k, w)| k * w).sum();
        self.factor.solve_lower(&mut against);
        let explained: f64 = against.iter().map(|x| x * x).sum();
        let left = self.prior.covariance(point, point) - explained;
        (self.mean + mean, left.max(0.0).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIOR: Prior = Prior {
        constant: 1.0,
        slope: 1.0,
        residual: 0.1,
        length: [0.5; 4],
        noise: 1e-6,
    };

    #[test]
    fn samples_are_reproduced_and_certain_and_far_points_are_not() {
        let f = |p: &Point| 2.0 - p[0] + libm::sin(3.0 * p[1]) * 0.3;
        let points: Vec<Point> = (0..20)
            .map(|i| [f64::from(i % 4) / 3.0, f64::from(i / 4) / 4.0, 0.5, 0.5])
            .collect();
        let samples: Vec<(Point, f64)> = points.iter().map(|p| (*p, f(p))).collect();
        let process = Process::fit(PRIOR, &samples);
        for (point, value) in &samples {
            let (mean, sigma) = process.predict(point);
            assert!(
                (mean - value).abs() < 1e-3 && sigma < 2e-3,
                "{mean} {value} {sigma}"
            );
        }
        let between = [0.5, 0.6, 0.5, 0.5];
        let (mean, sigma) = process.predict(&between);
        assert!((mean - f(&between)).abs() < 0.02, "{mean} {}", f(&between));
        let (_, far) = process.predict(&[0.5, 0.6, 0.0, 1.0]);
        assert!(far > 3.0 * sigma);
    }
}
