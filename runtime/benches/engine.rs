//! What a run of the engine costs beside the bare call into ONNX Runtime: the digits model, the same sessions,
//! in turn on one thread.
//!
//! ```text
//! cargo bench -p fulcrum-runtime --bench engine
//! ```
//!
//! Needs an ONNX Runtime library (`fulcrum engine install`).

mod bare;

use bare::{BATCH, model};
use fulcrum_runtime::allocation::{self, CountingAllocator};
use fulcrum_runtime::engine::{Engine, InferenceSession, SessionOptions, TrainingSession, library};
use std::error::Error;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// Rounds of all four loops in turn, so that what else the machine does hits all of them.
const ROUNDS: usize = 200;
/// Runs per round and loop.
const RUNS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let library = library::find(None)?;
    println!("{library}");
    let engine = Engine::start(&library)?;
    let options = SessionOptions::with_batch(BATCH);
    let (mut training, mut parameters) =
        TrainingSession::load(&engine, &model("train.onnx"), options)?;
    let mut inference =
        InferenceSession::load(&engine, &model("infer.onnx"), options, Some(&parameters))?;

    let mut infer = Comparison::new("inference, batch 16");
    let mut train = Comparison::new("training step, batch 16");
    // A step reads what the one before wrote.
    let mut side = 0;
    let before = allocation::count();
    for _ in 0..ROUNDS {
        infer.bare.time(|| bare::run(inference.calls().next()));
        infer
            .engine
            .time(|| assert_eq!(inference.run(Some(&parameters)), Ok(())));
        train.bare.time(|| {
            bare::run(training.calls().nth(side));
            side = 1 - side;
        });
        train
            .engine
            .time(|| assert!(training.step(&mut parameters).is_ok()));
    }
    let count = allocation::count().since(before);
    infer.print();
    train.print();
    println!("Rust allocations in all runs: {}", count.allocations);
    Ok(())
}

/// Times of single runs, and of whole rounds without a clock in between.
struct Times {
    runs_ns: Vec<u64>,
    rounds_ns: Vec<u64>,
}

impl Times {
    fn new() -> Self {
        Self {
            runs_ns: Vec::with_capacity(ROUNDS * RUNS),
            rounds_ns: Vec::with_capacity(ROUNDS),
        }
    }

    fn time(&mut self, mut run: impl FnMut()) {
        run();
        let began = Instant::now();
        for _ in 0..RUNS {
            run();
        }
        self.rounds_ns
            .push(began.elapsed().as_nanos() as u64 / RUNS as u64);
        for _ in 0..RUNS {
            let began = Instant::now();
            run();
            self.runs_ns.push(began.elapsed().as_nanos() as u64);
        }
    }
}

struct Comparison {
    name: &'static str,
    bare: Times,
    engine: Times,
}

impl Comparison {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            bare: Times::new(),
            engine: Times::new(),
        }
    }

    fn print(&mut self) {
        // Before the rounds are sorted: a round of one is compared with the same round of the other.
        let mut ratios: Vec<f64> = (self.engine.rounds_ns.iter())
            .zip(&self.bare.rounds_ns)
            .map(|(&engine, &bare)| engine as f64 / bare as f64)
            .collect();
        ratios.sort_by(f64::total_cmp);
        println!("{}", self.name);
        let mut p10_ns = [0; 2];
        let both = [("bare", &mut self.bare), ("engine", &mut self.engine)];
        for ((name, times), p10_ns) in both.into_iter().zip(&mut p10_ns) {
            let mut at = |q| quantile(&mut times.runs_ns, q);
            *p10_ns = at(0.1);
            let [p10, p50, p99, p999] = [*p10_ns, at(0.5), at(0.99), at(0.999)].map(us);
            println!(
                "  {name:6}  p10 {p10:7.1} us  p50 {p50:7.1} us  p99 {p99:7.1} us  p99.9 {p999:7.1} us"
            );
        }
        let at = |q: f64| (ratios[(q * (ratios.len() - 1) as f64) as usize] - 1.0) * 100.0;
        let [bare, engine] = p10_ns.map(|ns| ns as f64);
        println!(
            "  engine over bare: {:+.2} % at p10; back to back, median of {ROUNDS} rounds, {:+.2} % \
             (quartiles {:+.2} to {:+.2} %)",
            (engine / bare - 1.0) * 100.0,
            at(0.5),
            at(0.25),
            at(0.75)
        );
    }
}

fn quantile(values: &mut [u64], q: f64) -> u64 {
    values.sort_unstable();
    values[(q * (values.len() - 1) as f64) as usize]
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}
