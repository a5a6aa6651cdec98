//! A maximum without a corner.

fn power(base: f64, exponent: f64) -> f64 {
    libm::exp(exponent * libm::log(base))
}

/// `(x^p + y^p)^(1/p)` without overflow.
pub(super) fn soft_max(x: f64, y: f64, p: f64) -> f64 {
    let (high, low) = if x > y { (x, y) } else { (y, x) };
    high * power(1.0 + power(low / high, p), 1.0 / p)
}
