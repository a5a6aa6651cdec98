//! What one way to do the same costs more than another.

/// What one costs more than another, in per cent: of the rounds in all, and of each placement.
pub(crate) struct Overhead {
    name: &'static str,
    pub(crate) placements: Vec<Vec<f64>>,
}

impl Overhead {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self {
            name,
            placements: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, one_ns: u64, other_ns: u64) {
        if let Some(rounds) = self.placements.last_mut() {
            rounds.push((one_ns as f64 / other_ns as f64 - 1.0) * 100.0);
        }
    }

    pub(crate) fn print(&self) {
        let mut all = self.placements.concat();
        let mut medians: Vec<f64> = self
            .placements
            .iter()
            .map(|rounds| quantile(&mut rounds.clone(), 0.5))
            .collect();
        println!(
            "  {:18}  {:+.2} % (quartiles {:+.2} to {:+.2} %; medians of {} placements {:+.2} to {:+.2} %)",
            self.name,
            quantile(&mut all, 0.5),
            quantile(&mut all, 0.25),
            quantile(&mut all, 0.75),
            self.placements.len(),
            quantile(&mut medians, 0.0),
            quantile(&mut medians, 1.0),
        );
    }
}

/// The values are sorted by it.
pub(crate) fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(q * (values.len() - 1) as f64) as usize]
}
