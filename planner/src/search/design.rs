//! Where a search starts: few modes from which every parameter of the models can be told.
//!
//! The extremes answer the extreme budgets; lowering one knob at a time from the top, and raising one
//! from the bottom, separates the terms of the roofline and of the power model; the middle shows where
//! their corners are.

use crate::surrogate::clocks::Clocks;

/// Places in the unit cube (cores, CPU, GPU, memory), in the order they are measured.
const PLACES: [[f64; 4]; 10] = [
    [1.0, 1.0, 1.0, 1.0],
    [0.0, 0.0, 0.0, 0.0],
    [0.5, 0.6, 0.6, 1.0],
    [1.0, 0.0, 0.7, 1.0],
    [1.0, 0.25, 1.0, 1.0],
    [1.0, 1.0, 0.35, 1.0],
    [0.0, 1.0, 0.8, 1.0],
    [0.6, 0.8, 0.8, 0.0],
    [0.0, 0.4, 0.5, 0.7],
    [0.5, 0.3, 0.25, 0.7],
];

/// The candidate nearest to each place, without repetition; ties: the smaller mode.
pub(super) fn initial(clocks: &[Clocks], most: usize) -> Vec<usize> {
    let mut chosen: Vec<usize> = Vec::new();
    for place in PLACES.iter().take(most) {
        let distance = |at: &usize| -> f64 {
            let point = &clocks[*at].point;
            point
                .iter()
                .zip(place)
                .map(|(x, y)| (x - y) * (x - y))
                .sum()
        };
        let free = (0..clocks.len()).filter(|at| !chosen.contains(at));
        chosen.extend(free.min_by(|a, b| distance(a).total_cmp(&distance(b))));
    }
    chosen
}
