//! Whether a thermal limit holds a clock down: the kernel's cooling devices (jetson.md 1.6).

use crate::board::number;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Cooling devices that lower a clock. Fans are not among them, and neither are NVIDIA's alerts for
/// hot surfaces.
const CLOCK_LOWERING: [&str; 5] = [
    "cpufreq",
    "devfreq",
    "thermal-cpufreq",
    "thermal-devfreq",
    "throttle-alert",
];

/// The cooling devices of a board that lower clocks, open.
#[derive(Debug)]
pub struct Throttling {
    states: Vec<File>,
}

impl Throttling {
    /// Finds them below `root`; a board without any never throttles as far as can be told.
    #[must_use]
    pub fn find(root: &Path) -> Self {
        let folder = root.join("sys/class/thermal");
        let mut folders: Vec<_> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        folders.sort();
        let states = folders.iter().filter_map(|device| {
            device
                .file_name()?
                .to_str()?
                .strip_prefix("cooling_device")?;
            let kind = fs::read(device.join("type")).ok()?;
            let kind = number::first_line(&kind)?;
            CLOCK_LOWERING
                .iter()
                .any(|part| kind.starts_with(part) || kind.ends_with(part))
                .then_some(())?;
            File::open(device.join("cur_state")).ok()
        });
        Self {
            states: states.collect(),
        }
    }

    /// Whether one of them is at work now. One that cannot be read is not.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.states.iter().any(|state| {
            let mut buffer = [0; 32];
            let length = state.read_at(&mut buffer, 0).unwrap_or(0);
            let state = number::parse_u64(buffer.get(..length).unwrap_or_default());
            state.is_some_and(|state| state > 0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_that_is_held_down_counts_and_a_fan_does_not() {
        let root = std::env::temp_dir().join(format!("fulcrum-throttle-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let device = |number: u32, kind: &str, state: u32| {
            let folder = root.join(format!("sys/class/thermal/cooling_device{number}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("type"), format!("{kind}\n")).unwrap();
            fs::write(folder.join("cur_state"), format!("{state}\n")).unwrap();
        };
        assert!(!Throttling::find(&root).is_active(), "none at all");
        device(0, "pwm-fan", 3);
        device(1, "cpufreq-cpu0", 0);
        device(2, "gpu-throttle-alert", 0);
        let throttling = Throttling::find(&root);
        assert!(!throttling.is_active());
        device(1, "cpufreq-cpu0", 1);
        assert!(throttling.is_active());
        device(1, "cpufreq-cpu0", 0);
        device(2, "gpu-throttle-alert", 1);
        assert!(throttling.is_active());
        fs::remove_dir_all(&root).unwrap();
    }
}
