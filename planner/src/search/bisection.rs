//! One bisection per knob: the moves of GMD and of BS (fulcrum.md section 3).
//!
//! A [`Walk`] stands on a mode. Under budget a knob moves up, halfway to the largest value left, and
//! the values up to where it stood are dropped; over budget it moves down, likewise. A knob without
//! values left is exhausted.

use fulcrum_plan::PowerMode;
use std::collections::BTreeSet;

/// Number of knobs: cores, CPU, GPU, memory.
pub(super) const KNOBS: usize = 4;

/// Sorted values of each knob, and the modes that exist.
pub(super) struct Lattice<'a> {
    modes: &'a [PowerMode],
    values: [Vec<u32>; KNOBS],
}

fn knobs(mode: &PowerMode) -> [u32; KNOBS] {
    [
        mode.cores.into(),
        mode.cpu_khz.0,
        mode.gpu_khz.0,
        mode.emc_khz.0,
    ]
}

impl<'a> Lattice<'a> {
    /// The lattice of candidate modes, ascending.
    pub(super) fn new(modes: &'a [PowerMode]) -> Self {
        let values = [0, 1, 2, 3].map(|knob| {
            let distinct: BTreeSet<u32> = modes.iter().map(|mode| knobs(mode)[knob]).collect();
            distinct.into_iter().collect()
        });
        Self { modes, values }
    }

    /// The candidate at a place or, where the candidates are no lattice, the one the fewest values away;
    /// of equals the smallest. `None` without candidates.
    pub(super) fn mode(&self, at: &[usize; KNOBS]) -> Option<usize> {
        let mut wanted = [0; KNOBS];
        for ((value, values), &at) in wanted.iter_mut().zip(&self.values).zip(at) {
            *value = *values.get(at)?;
        }
        if let Ok(mode) = self.modes.binary_search_by_key(&wanted, knobs) {
            return Some(mode);
        }
        let steps = |mode: &PowerMode| -> usize {
            let place = |(values, value): (&Vec<u32>, u32)| values.partition_point(|&v| v < value);
            let places = self.values.iter().zip(knobs(mode)).map(place);
            places.zip(at).map(|(place, &at)| place.abs_diff(at)).sum()
        };
        (0..self.modes.len()).min_by_key(|&mode| steps(&self.modes[mode]))
    }

    /// The place of all knobs at their largest value.
    pub(super) fn top(&self) -> [usize; KNOBS] {
        [0, 1, 2, 3].map(|knob| self.values[knob].len() - 1)
    }

    /// A walk that starts in the middle of every knob.
    pub(super) fn walk(&self) -> Walk {
        let high = self.top();
        Walk {
            at: high.map(|last| last / 2),
            low: [0; KNOBS],
            high,
        }
    }
}

/// Where a search stands, and which values of each knob are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walk {
    /// Index into the values of each knob.
    pub(super) at: [usize; KNOBS],
    low: [usize; KNOBS],
    high: [usize; KNOBS],
}

impl Walk {
    /// This place with one knob at its smallest (`up` false) or largest value.
    pub(super) fn with_extreme(&self, knob: usize, up: bool) -> [usize; KNOBS] {
        let mut at = self.at;
        at[knob] = if up { self.high[knob] } else { self.low[knob] };
        at
    }

    /// Whether a knob has a value left in a direction.
    pub(super) fn can_step(&self, knob: usize, up: bool) -> bool {
        if up {
            self.at[knob] < self.high[knob]
        } else {
            self.at[knob] > self.low[knob]
        }
    }

    /// Moves a knob halfway to its last value in a direction; the caller has asked
    /// [`Walk::can_step`].
    pub(super) fn step(&mut self, knob: usize, up: bool) {
        let i = self.at[knob];
        if up {
            self.low[knob] = i + 1;
            self.at[knob] = (i + self.high[knob]).div_ceil(2);
        } else {
            self.high[knob] = i - 1;
            self.at[knob] = (self.low[knob] + i) / 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fulcrum_plan::units::Khz;

    /// Modes with `count` CPU clocks and one of everything else.
    fn modes(count: u32) -> Vec<PowerMode> {
        (1..=count)
            .map(|khz| PowerMode {
                cores: 1,
                cpu_khz: Khz(khz),
                gpu_khz: Khz(5),
                emc_khz: Khz(5),
            })
            .collect()
    }

    #[test]
    fn a_walk_up_ends_at_the_top_after_logarithmically_many_steps() {
        let modes = modes(100);
        let lattice = Lattice::new(&modes);
        let mut walk = lattice.walk();
        assert_eq!(lattice.mode(&walk.at), Some(49));
        let mut steps = 0;
        while walk.can_step(1, true) {
            walk.step(1, true);
            steps += 1;
        }
        assert_eq!((walk.at, lattice.mode(&walk.at)), (lattice.top(), Some(99)));
        assert!(steps <= 7, "{steps}");
        assert!(!walk.can_step(0, true) && !walk.can_step(0, false));
    }

    #[test]
    fn going_up_and_down_narrows_to_one_value() {
        let modes = modes(9);
        let mut walk = Lattice::new(&modes).walk();
        let mut seen = vec![walk.at[1]];
        for up in [true, false, true, false, true, false] {
            if walk.can_step(1, up) {
                walk.step(1, up);
                seen.push(walk.at[1]);
            }
        }
        let mut distinct = seen.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), seen.len(), "a value came twice: {seen:?}");
    }

    #[test]
    fn without_a_mode_at_a_place_the_nearest_one_is_taken() {
        let mode = |cpu: u32, gpu: u32| PowerMode {
            cores: 1,
            cpu_khz: Khz(cpu),
            gpu_khz: Khz(gpu),
            emc_khz: Khz(5),
        };
        // No mode has everything at its largest or in the middle.
        let modes = [mode(10, 30), mode(20, 10), mode(20, 20), mode(30, 10)];
        let lattice = Lattice::new(&modes);
        assert_eq!(lattice.mode(&[0, 1, 1, 0]), Some(2));
        assert_eq!(lattice.mode(&lattice.top()), Some(0));
        assert_eq!(lattice.mode(&[0, 2, 1, 0]), Some(2));
        assert_eq!(Lattice::new(&[]).mode(&[0; KNOBS]), None);
    }
}
