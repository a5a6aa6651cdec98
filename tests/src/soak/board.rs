//! Whoever else touches the board's files: failing sensors, and a second actor that sets clocks.

use fulcrum_runtime::random::Random;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// The second actor and the sensors' faults, until told to stop; every file but the clocks is then as it was.
pub(super) struct Disturbance<'a> {
    /// The board's folder.
    pub(super) root: &'a Path,
    /// Its files before `fulcrumd` touched them.
    pub(super) stock: &'a BTreeMap<PathBuf, String>,
}

impl Disturbance<'_> {
    /// Disturbs, and returns how often.
    pub(super) fn run(&self, mut random: Random, stop: &AtomicBool) -> u64 {
        let mut count = 0;
        while !pause(&mut random, 2_000, stop) {
            count += 1;
            // Too much power is seldom: every time, the guard trains later again.
            match random.below(16) {
                0 => self.overload(&mut random, stop),
                1..6 => self.vanish(&mut random, stop),
                _ => self.rewrite(&mut random),
            }
        }
        count
    }

    fn sensors(&self) -> Vec<&PathBuf> {
        let is_sensor = |path: &Path| {
            let text = path.to_string_lossy();
            text.contains("/hwmon/") && text.ends_with("_input") || text.ends_with("/temp")
        };
        self.stock.keys().filter(|path| is_sensor(path)).collect()
    }

    /// A sensor gives nothing, then its file is gone, then it is back.
    fn vanish(&self, random: &mut Random, stop: &AtomicBool) {
        let sensors = self.sensors();
        let Some(path) = choose(&sensors, random) else {
            return;
        };
        let file = self.root.join(path);
        // Emptied in place, which also a file that is open shows.
        let _ = fs::write(&file, "");
        pause(random, 1_000, stop);
        let _ = fs::remove_file(&file);
        pause(random, 1_000, stop);
        let _ = fs::write(&file, &self.stock[*path]);
    }

    /// Every rail tells of twenty times its current for a moment: power is above the budget.
    fn overload(&self, random: &mut Random, stop: &AtomicBool) {
        let sensors = self.sensors();
        let rails = || {
            sensors
                .iter()
                .filter(|path| path.to_string_lossy().contains("/curr"))
        };
        for path in rails() {
            let usual: u64 = self.stock[*path].trim().parse().unwrap_or(0);
            let _ = fs::write(self.root.join(path), format!("{}\n", usual * 20));
        }
        pause(random, 3_000, stop);
        for path in rails() {
            let _ = fs::write(self.root.join(path), &self.stock[*path]);
        }
    }

    /// One of the files that `fulcrumd` has set gets its stock value.
    fn rewrite(&self, random: &mut Random) {
        let changed = self.stock.iter().filter(|(path, text)| {
            let now = fs::read_to_string(self.root.join(path));
            now.is_ok_and(|now| now != **text && !now.is_empty())
        });
        let changed: Vec<_> = changed.collect();
        let Some((path, text)) = choose(&changed, random) else {
            return;
        };
        let _ = fs::write(self.root.join(path), text);
        // Once the memory clock is not locked any more, the firmware moves it, and nobody puts it back.
        if path.ends_with("mrq_rate_locked") {
            let rate = path.with_file_name("rate");
            if let Some(text) = self.stock.get(&rate) {
                let _ = fs::write(self.root.join(rate), text);
            }
        }
    }
}

fn choose<'a, T>(among: &'a [T], random: &mut Random) -> Option<&'a T> {
    let index = random.below(among.len().max(1) as u64);
    among.get(usize::try_from(index).ok()?)
}

/// Waits a random time of up to `most_ms`; true if it is time to stop.
pub(super) fn pause(random: &mut Random, most_ms: u64, stop: &AtomicBool) -> bool {
    let mut left_ms = 1 + random.below(most_ms);
    while left_ms > 0 && !stop.load(Ordering::Relaxed) {
        let part_ms = left_ms.min(20);
        thread::sleep(Duration::from_millis(part_ms));
        left_ms -= part_ms;
    }
    stop.load(Ordering::Relaxed)
}
