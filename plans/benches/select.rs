//! How long a selection takes: `cargo bench -p fulcrum-plan`. Prints medians; asserts nothing.

#[path = "../tests/sample/mod.rs"]
mod sample;

use fulcrum_plan::problem::Demand;
use fulcrum_plan::select::{Problem, select};
use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};
use fulcrum_plan::{Cell, PlanTable, PowerMode, Row};
use std::hint::black_box;
use std::time::Instant;

/// A plan of `rows` modes with every cell filled, each faster and hungrier than the one before.
fn full_plan(rows: u32, batches: &[u16]) -> PlanTable {
    let board = sample::board("orin-agx");
    let mut plan = sample::plan(0, 1);
    plan.train = Some(sample::workload("train", &[16]));
    plan.infer = [sample::workload("infer", batches)].into_iter().collect();
    let modes = board.cpu_khz.iter().flat_map(|cpu_khz| {
        board.gpu_khz[0].iter().map(|gpu_khz| PowerMode {
            cores: 12,
            cpu_khz: *cpu_khz,
            gpu_khz: *gpu_khz,
            emc_khz: board.emc_khz[3],
        })
    });
    let rows = modes
        .take(rows as usize)
        .zip(1u32..)
        .map(|(mode, index)| Row {
            mode,
            cells: std::iter::once(16)
                .chain(batches.iter().copied())
                .map(|batch| {
                    let time_us = MicroSec(u32::from(batch) * 60_000 / (index + 10) + 1_000);
                    Some(Cell {
                        time_us,
                        power_mw: MilliWatt(9_000 + index * 150),
                    })
                })
                .collect(),
        });
    plan.rows = rows.collect();
    plan
}

fn main() {
    for (rows, batches) in [
        (50, &[1u16, 4, 16, 32, 64][..]),
        (256, &[1, 2, 4, 8, 16, 32, 48, 64]),
    ] {
        let plan = full_plan(rows, batches);
        for problem in [
            Problem::Training,
            Problem::Inference(0),
            Problem::TrainingInference(0),
        ] {
            let mut times_ns: Vec<u128> = (0..2_001u32)
                .map(|repeat| {
                    let demand = Demand {
                        power_mw: MilliWatt(60_000 - repeat),
                        latency_us: MicroSec(1_500_000),
                        rate: MilliRps(60_000),
                    };
                    let start = Instant::now();
                    black_box(select(black_box(&plan), problem, black_box(&demand)));
                    start.elapsed().as_nanos()
                })
                .collect();
            times_ns.sort_unstable();
            let (p50, p99) = (times_ns[1000], times_ns[1980]);
            println!(
                "{rows} modes x {} batches, {problem:?}: p50 {p50} ns, p99 {p99} ns",
                batches.len()
            );
        }
    }
}
