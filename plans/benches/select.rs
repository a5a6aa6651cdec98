//! How long a selection takes: `cargo bench -p fulcrum-plan`. Prints; asserts nothing.
//!
//! Each problem is asked over many demands, from those that anything meets to those that nothing meets, in three
//! plans: *ordered*, where every mode is faster and hungrier than the one before, *uneven*, where clocks help
//! one minibatch more than another, and *scattered*, where one draws more than another, too. Of each demand the median time counts: printed are the mean over the
//! demands and the slowest of them, and how far the slowest of a plan is from the limit for plans of its size.

#[path = "../tests/sample/mod.rs"]
mod sample;

use fulcrum_plan::problem::Demand;
use fulcrum_plan::select::{Problem, Selector};
use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};
use fulcrum_plan::{Cell, PlanTable, PowerMode, Row};
use std::hint::black_box;
use std::time::Instant;

const REPEATS: usize = 31;

/// A plan of `rows` modes with every cell filled; times and powers of a mode differ by up to so many percent.
fn full_plan(rows: u32, batches: &[u16], (time_percent, power_percent): (u32, u32)) -> PlanTable {
    let board = sample::board("orin-agx");
    let mut plan = sample::plan(0, 1);
    plan.train = Some(sample::workload("train", &[16]));
    plan.infer = ["urgent", "other"]
        .into_iter()
        .map(|name| sample::workload(name, batches))
        .collect();
    let modes = board.cpu_khz.iter().flat_map(|cpu_khz| {
        board.gpu_khz[0].iter().map(|gpu_khz| PowerMode {
            cores: 12,
            cpu_khz: *cpu_khz,
            gpu_khz: *gpu_khz,
            emc_khz: board.emc_khz[3],
        })
    });
    let (mut rng, mut power_rng) = (sample::Rng(7), sample::Rng(8));
    let rows = modes
        .take(rows as usize)
        .zip(1u32..)
        .map(|(mode, index)| Row {
            mode,
            cells: std::iter::once(&16)
                .chain(batches)
                .chain(batches)
                .map(|batch| {
                    let time_us = u32::from(*batch) * 60_000 / (index + 10) + 1_000;
                    let power_mw = 9_000 + index * 150;
                    let time_percent = 100 + rng.within(0, time_percent);
                    let power_percent = 100 + power_rng.within(0, power_percent);
                    Some(Cell {
                        time_us: MicroSec(time_us * time_percent / 100),
                        power_mw: MilliWatt(power_mw * power_percent / 100),
                    })
                })
                .collect(),
        });
    plan.rows = rows.collect();
    plan.rows.sort_by_key(|row| (row.power_min(), row.mode));
    plan
}

fn demands() -> Vec<Demand> {
    let mut demands = Vec::new();
    for power_w in [10, 15, 20, 30, 45, 60] {
        for latency_ms in [10, 50, 200, 500, 1_500] {
            for rate in [5, 30, 60, 200, 600, 2_000] {
                demands.push(Demand {
                    power_mw: MilliWatt(power_w * 1_000),
                    latency_us: MicroSec(latency_ms * 1_000),
                    rate: MilliRps(rate * 1_000),
                });
            }
        }
    }
    demands
}

fn median_ns(selector: &Selector<'_>, problem: Problem, demand: &Demand) -> u128 {
    let mut times_ns = [0; REPEATS];
    for time_ns in &mut times_ns {
        let start = Instant::now();
        black_box(black_box(selector).select(problem, black_box(demand)));
        *time_ns = start.elapsed().as_nanos();
    }
    times_ns.sort_unstable();
    times_ns[REPEATS / 2]
}

fn main() {
    let demands = demands();
    for (rows, batches, limit_ns) in [
        (50, &[1u16, 4, 16, 32, 64][..], 1_000),
        (256, &[1, 2, 4, 8, 16, 32, 48, 64], 5_000),
    ] {
        for (shape, percent) in [
            ("ordered", (0, 0)),
            ("uneven", (60, 0)),
            ("scattered", (60, 30)),
        ] {
            let plan = full_plan(rows, batches, percent);
            println!("{rows} modes x {} batches, {shape}", batches.len());
            let start = Instant::now();
            let selector = black_box(Selector::new(&plan));
            println!("  selector made in {} ns", start.elapsed().as_nanos());
            let mut slowest_of_all_ns = 0;
            for problem in [
                Problem::Training,
                Problem::Inference(0),
                Problem::TrainingInference(0),
                Problem::TwoInferences,
            ] {
                let times_ns: Vec<u128> = demands
                    .iter()
                    .map(|demand| median_ns(&selector, problem, demand))
                    .collect();
                let mean_ns = times_ns.iter().sum::<u128>() / times_ns.len() as u128;
                let slowest = times_ns.iter().zip(&demands).max_by_key(|(time, _)| *time);
                let (slowest_ns, demand) = slowest.unwrap();
                slowest_of_all_ns = slowest_of_all_ns.max(*slowest_ns);
                let name = format!("{problem:?}");
                println!(
                    "  {name:<20}  mean {mean_ns:>5} ns  slowest {slowest_ns:>5} ns, at {} W, {} ms, {}/s",
                    demand.power_mw.0 / 1_000,
                    demand.latency_us.0 / 1_000,
                    demand.rate.0 / 1_000,
                );
            }
            let percent = slowest_of_all_ns * 100 / limit_ns;
            println!("  limit {limit_ns} ns: the slowest demand takes {percent} % of it");
        }
    }
}
