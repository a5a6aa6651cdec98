//! NN: the lab's network on random modes; a baseline that answers with predicted modes.
//!
//! It profiles as RND does. Its answers are not observed, so no plan can be made of them (invariant
//! I3); the evaluation counts what they violate.

use crate::pool::Pool;
use crate::random::Random;
use crate::surrogate::mlp::Mlp;
use crate::workload::Task;
use fulcrum_plan::units::{MicroSec, MilliWatt};
use fulcrum_plan::{Cell, PowerMode};

/// Predicted cells of every mode, by mode, then slot: one network for the time and one for the power
/// of each workload, from (cores, CPU, GPU, memory clock, batch size). `None` for a workload without a
/// sample.
#[must_use]
pub fn predict(task: &Task, modes: &[PowerMode], pool: &Pool, seed: u64) -> Vec<Option<Cell>> {
    let slots = task.slots();
    let mut cells = vec![None; modes.len() * slots.len()];
    for (workload, described) in task.workloads().iter().enumerate() {
        let of_workload = |slot: usize| slots[slot].workload == workload;
        let seen: Vec<(Vec<f64>, Cell)> = pool
            .order()
            .iter()
            .filter(|(_, slot)| of_workload(*slot))
            .filter_map(|&(mode, slot)| {
                let cell = pool.cell(mode, slot)?;
                Some((inputs(&modes[mode], slots[slot].batch), cell))
            })
            .collect();
        if seen.is_empty() {
            continue;
        }
        let train = |what: &[u8], of: fn(&Cell) -> u32| {
            let samples: Vec<(Vec<f64>, f64)> = seen
                .iter()
                .map(|(x, cell)| (x.clone(), f64::from(of(cell))))
                .collect();
            let name = described.to_string();
            Mlp::train(
                &samples,
                &mut Random::new(seed, &[b"search nn", name.as_bytes(), what]),
            )
        };
        let time_us = train(b"time", |cell| cell.time_us.0);
        let power_mw = train(b"power", |cell| cell.power_mw.0);
        for (mode, clocks) in modes.iter().enumerate() {
            for slot in (0..slots.len()).filter(|&slot| of_workload(slot)) {
                let x = inputs(clocks, slots[slot].batch);
                let whole = |value: f64| value.round().clamp(1.0, f64::from(u32::MAX)) as u32;
                cells[mode * slots.len() + slot] = Some(Cell {
                    time_us: MicroSec(whole(time_us.predict(&x))),
                    power_mw: MilliWatt(whole(power_mw.predict(&x))),
                });
            }
        }
    }
    cells
}

fn inputs(mode: &PowerMode, batch: u16) -> Vec<f64> {
    vec![
        f64::from(mode.cores),
        f64::from(mode.cpu_khz.0),
        f64::from(mode.gpu_khz.0),
        f64::from(mode.emc_khz.0),
        f64::from(batch),
    ]
}
