//! What a decision costs: `cargo bench -p fulcrum-runtime --bench schedule`. Prints, asserts nothing.

use fulcrum_plan::units::MilliRps;
use fulcrum_runtime::schedule::{Assignment, Inputs, Overload, Policy, Schedule, Serving};
use std::hint::black_box;
use std::time::Instant;

const MS: u64 = 1_000_000;
const CALLS: u32 = 10_000_000;

fn main() {
    let assignment = Assignment {
        serving: Some(Serving {
            batch: 32,
            infer_ns: 46 * MS,
            budget_ns: 700 * MS,
        }),
        train_ns: Some(70 * MS),
        bulk: None,
        policy: Policy {
            overload: Overload::DropLate,
            train_share_per_mille: 0,
        },
    };
    let schedule = Schedule::new(assignment, 0);
    for (name, pending, now_ns) in [
        ("nothing waits: train", 0, 0),
        ("some wait: train", 5, 100 * MS),
        ("some wait: close", 5, 600 * MS),
        ("full batch", 32, 100 * MS),
    ] {
        let inputs = Inputs {
            pending,
            oldest_ns: (pending > 0).then_some(0),
            rate: MilliRps(60_000),
            ..Inputs::default()
        };
        let start = Instant::now();
        for _ in 0..CALLS {
            black_box(black_box(&schedule).step(black_box(now_ns), black_box(&inputs)));
        }
        let per_call = start.elapsed() / CALLS;
        println!("step, {name:<24} {per_call:?}");
    }
}
