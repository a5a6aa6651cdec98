//! Over-current and under-voltage throttling: the event counters of `soctherm_oc` (jetson.md 1.7).
//!
//! Firmware publishes them about every 2 s; neither devfreq nor cpufreq shows such an event.

use super::number;
use super::reading::Reading;
use super::startup::{read_start, sorted_entries};
use std::path::Path;

/// The counters of a board, open.
#[derive(Debug)]
pub struct OverCurrent {
    counters: Vec<Reading>,
}

impl OverCurrent {
    /// Finds the counters below `root`; a board without them has none.
    pub(super) fn find(root: &Path) -> Self {
        let counters = sorted_entries(&root.join("sys/class/hwmon"))
            .iter()
            .filter(|folder| {
                let name = read_start(&folder.join("name")).unwrap_or_default();
                number::first_line(&name) == Some("soctherm_oc")
            })
            .flat_map(|folder| (1..=3).map(|n| folder.join(format!("oc{n}_event_cnt"))))
            .filter_map(|path| Reading::open(&path))
            .collect();
        Self { counters }
    }

    /// Events since boot, all counters together; `None` when the board has no counters or one of
    /// them cannot be read. Two readings tell how many events came between them.
    #[must_use]
    pub fn events(&self) -> Option<u64> {
        if self.counters.is_empty() {
            return None;
        }
        self.counters
            .iter()
            .try_fold(0u64, |sum, counter| sum.checked_add(counter.unsigned()?))
    }
}
