//! A mode as the models see it.

use super::soft_max::soft_max;
use fulcrum_plan::PowerMode;

/// A point of the unit cube that the candidates span: logarithms of cores, CPU, GPU and memory clock.
pub type Point = [f64; 4];

/// A mode in the units of the models, and its place among the candidates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clocks {
    /// Online cores.
    pub cores: f64,
    /// CPU clock in GHz.
    pub cpu_ghz: f64,
    /// GPU clock in GHz.
    pub gpu_ghz: f64,
    /// Memory clock in GHz.
    pub emc_ghz: f64,
    /// Place in the unit cube.
    pub point: Point,
    /// How far the GPU clock is ahead of the CPU clock, `ln(g/u)`, relative to the top of the cube.
    /// The further, the more a CPU starves its GPU, and the less regular are time and power: in the
    /// published grids both deviate from any smooth fit five to ten times as much at 1.5 as at -1.
    pub gpu_lead: f64,
}

/// Cores that feeding a GPU keeps busy: the usual number of loader processes.
const FEED_CORES: f64 = 4.0;

impl Clocks {
    /// Every knob at its largest value; `None` of no mode.
    pub(super) fn top(modes: &[Self]) -> Option<Self> {
        modes.iter().copied().reduce(|a, b| Self {
            cores: a.cores.max(b.cores),
            cpu_ghz: a.cpu_ghz.max(b.cpu_ghz),
            gpu_ghz: a.gpu_ghz.max(b.gpu_ghz),
            emc_ghz: a.emc_ghz.max(b.emc_ghz),
            point: [1.0; 4],
            gpu_lead: 0.0,
        })
    }

    /// Speed of the host at feeding a GPU: clock times cores, of which a few are enough.
    pub(super) fn host_ghz(&self) -> f64 {
        self.cpu_ghz / soft_max(1.0 / self.cores, 1.0 / FEED_CORES, 4.0)
    }
}

/// The unit cube of a set of modes: each dimension's logarithm, smallest to largest, is 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cube {
    low: Point,
    high: Point,
}

fn values(mode: &PowerMode) -> Point {
    [
        u32::from(mode.cores),
        mode.cpu_khz.0,
        mode.gpu_khz.0,
        mode.emc_khz.0,
    ]
    .map(f64::from)
}

impl Cube {
    /// The cube of `modes`, which are not empty.
    #[must_use]
    pub fn of(modes: &[PowerMode]) -> Self {
        let mut low = [f64::INFINITY; 4];
        let mut high = [f64::NEG_INFINITY; 4];
        for mode in modes {
            for (at, value) in values(mode).map(libm::log).into_iter().enumerate() {
                low[at] = low[at].min(value);
                high[at] = high[at].max(value);
            }
        }
        Self { low, high }
    }

    /// A mode's place; outside the unit cube for modes that the cube was not made of.
    #[must_use]
    pub fn clocks(&self, mode: &PowerMode) -> Clocks {
        let [cores, cpu, gpu, emc] = values(mode);
        let mut point = values(mode).map(libm::log);
        let gpu_lead = (point[2] - self.high[2]) - (point[1] - self.high[1]);
        for ((value, low), high) in point.iter_mut().zip(&self.low).zip(&self.high) {
            let width = if high > low { high - low } else { 1.0 };
            *value = (*value - low) / width;
        }
        Clocks {
            cores,
            cpu_ghz: cpu / 1e6,
            gpu_ghz: gpu / 1e6,
            emc_ghz: emc / 1e6,
            point,
            gpu_lead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fulcrum_plan::units::Khz;

    #[test]
    fn the_smallest_mode_is_the_origin_and_a_fixed_clock_stays_at_zero() {
        let mode = |cores, khz| PowerMode {
            cores,
            cpu_khz: Khz(khz),
            gpu_khz: Khz(khz),
            emc_khz: Khz(665_600),
        };
        let modes = [mode(2, 500_000), mode(4, 1_000_000), mode(8, 2_000_000)];
        let cube = Cube::of(&modes);
        assert_eq!(cube.clocks(&modes[0]).point, [0.0; 4]);
        let middle = cube.clocks(&modes[1]);
        assert!((middle.point[0] - 0.5).abs() < 1e-12);
        assert!((middle.point[1] - 0.5).abs() < 1e-12);
        assert_eq!(middle.point[3], 0.0);
        assert_eq!((middle.cores, middle.cpu_ghz), (4.0, 1.0));
    }
}
