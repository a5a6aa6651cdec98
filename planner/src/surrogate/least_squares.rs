//! Nonlinear least squares: Levenberg-Marquardt with a numerical Jacobian (Madsen, Nielsen, Tingleff,
//! Methods for Non-Linear Least Squares Problems, 2004, algorithm 3.16).

use super::cholesky::Cholesky;

/// Steps at most; a warm start needs three to five.
const STEPS_MAX: usize = 40;
/// Relative decrease of the sum of squares below which it is done.
const TOLERANCE: f64 = 1e-5;
const DIFFERENCE: f64 = 1e-5;
/// A step moves no parameter further than this (they are logarithms).
const STEP_MAX: f64 = 2.0;

/// Residuals as a function of `N` parameters.
pub trait Problem<const N: usize> {
    /// Writes the residuals at `theta` to `out`.
    fn residuals(&self, theta: &[f64; N], out: &mut Vec<f64>);
}

fn squares(residuals: &[f64]) -> f64 {
    residuals.iter().map(|r| r * r).sum()
}

/// Parameters near `start` with the least sum of squares.
pub fn minimize<const N: usize>(problem: &impl Problem<N>, start: [f64; N]) -> [f64; N] {
    let mut theta = start;
    let mut residuals = Vec::new();
    problem.residuals(&theta, &mut residuals);
    let mut cost = squares(&residuals);
    let mut damping = 1e-2;
    let mut jacobian = Vec::new();
    let mut trial = Vec::new();
    for _ in 0..STEPS_MAX {
        differentiate(problem, &theta, &residuals, &mut jacobian);
        let mut improved = false;
        for _ in 0..8 {
            let step = step::<N>(&jacobian, &residuals, damping);
            let mut next = theta;
            for at in 0..N {
                next[at] += step[at].clamp(-STEP_MAX, STEP_MAX);
            }
            problem.residuals(&next, &mut trial);
            let next_cost = squares(&trial);
            if next_cost < cost {
                let decrease = (cost - next_cost) / cost.max(f64::MIN_POSITIVE);
                theta = next;
                cost = next_cost;
                std::mem::swap(&mut residuals, &mut trial);
                damping = (damping * 0.2).max(1e-7);
                if decrease < TOLERANCE {
                    return theta;
                }
                improved = true;
                break;
            }
            damping *= 5.0;
        }
        if !improved {
            break;
        }
    }
    theta
}

/// Forward differences, one row of `N` per residual.
fn differentiate<const N: usize>(
    problem: &impl Problem<N>,
    theta: &[f64; N],
    residuals: &[f64],
    jacobian: &mut Vec<[f64; N]>,
) {
    jacobian.clear();
    jacobian.resize(residuals.len(), [0.0; N]);
    let mut moved = Vec::new();
    for at in 0..N {
        let mut beside = *theta;
        beside[at] += DIFFERENCE;
        problem.residuals(&beside, &mut moved);
        for ((row, after), before) in jacobian.iter_mut().zip(&moved).zip(residuals) {
            row[at] = (after - before) / DIFFERENCE;
        }
    }
}

/// Solves `(J^T J + damping * diag(J^T J)) step = -J^T r`.
fn step<const N: usize>(jacobian: &[[f64; N]], residuals: &[f64], damping: f64) -> [f64; N] {
    let mut normal = [[0.0; N]; N];
    let mut step = [0.0; N];
    for (row, residual) in jacobian.iter().zip(residuals) {
        for i in 0..N {
            step[i] -= row[i] * residual;
            for j in 0..=i {
                normal[i][j] += row[i] * row[j];
            }
        }
    }
    let mut factor = Cholesky::new();
    for (i, row) in normal.iter().enumerate() {
        factor.push(&row[..i], row[i] * (1.0 + damping) + 1e-12);
    }
    factor.solve_lower(&mut step);
    factor.solve_upper(&mut step);
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rosenbrock's function; its minimum is (1, 1).
    struct Rosenbrock;

    impl Problem<2> for Rosenbrock {
        fn residuals(&self, x: &[f64; 2], out: &mut Vec<f64>) {
            out.clear();
            out.extend([10.0 * (x[1] - x[0] * x[0]), 1.0 - x[0]]);
        }
    }

    #[test]
    fn rosenbrocks_valley_is_followed_to_its_end() {
        let [x, y] = minimize(&Rosenbrock, [-1.2, 1.0]);
        assert!((x - 1.0).abs() < 1e-3 && (y - 1.0).abs() < 2e-3, "{x} {y}");
    }
}
