//! Managed interleaving against what people do today, with real models on one set of cores:
//!
//! ```text
//! cargo bench -p fulcrum-runtime --bench interleave -- MODELS_DIR DATA.rec [SECONDS] [REPETITIONS]
//! ```
//!
//! Variants, in turn and repeated:
//! - **managed**: the loop of `fulcrumd`, one thread, one minibatch at a time;
//! - **threads**: native sharing, the same loop without training beside a thread that trains back to back;
//! - **processes**: the same with the training in a process of its own;
//! - **inference**, **training**: each alone.
//!
//! Minibatches are runs of the same model one after the other, as of a deeper one, so that training steps
//! from a tenth to ten times an inference minibatch can be compared. `MODELS_DIR` holds `infer.onnx` (its batch free), `train.onnx` and `train.params`. All variants run on CPU 0
//! with one thread per session; whoever sends the requests runs on another CPU where there is one, because
//! clients are not part of the shared device. Latency counts from when a request was due.

use fulcrum_plan::units::MilliRps;
use fulcrum_runtime::arrivals::{Arrivals, Process};
use fulcrum_runtime::data::{Batches, Records};
use fulcrum_runtime::engine::{Engine, InferenceSession, SessionOptions, TrainingSession, library};
use fulcrum_runtime::feeder::feed;
use fulcrum_runtime::models::{HeldOut, Models};
use fulcrum_runtime::queue::{Request, Ring};
use fulcrum_runtime::schedule::{Assignment, Overload, Serving};
use fulcrum_runtime::serve::{Clock, GivenUp, Loop, Turn, Work, WorkError};
use fulcrum_runtime::telemetry::{Counter, Telemetry};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Shares of what inference alone can serve.
const LOADS_PERCENT: [u64; 3] = [20, 50, 90];
/// Requests per batch.
const BATCH: u16 = 16;
/// Runs of the model that make one inference minibatch: a model that is this many times as deep. A few
/// milliseconds, so that a feeder can send requests faithfully.
const INFER_RUNS: u32 = 40;
/// Steps that make one training step: about a tenth of, as much as, and ten times the inference minibatch.
const TRAIN_RUNS: [u32; 3] = [1, 10, 100];

/// Models that are several times as deep as the files'.
struct Scaled<'a> {
    models: Models<'a>,
    train_runs: u32,
}

impl Work for Scaled<'_> {
    fn infer(&mut self, requests: &[Request]) -> std::result::Result<usize, WorkError> {
        for _ in 1..INFER_RUNS {
            self.models.infer(requests)?;
        }
        self.models.infer(requests)
    }

    fn train(&mut self) -> std::result::Result<f32, WorkError> {
        for _ in 1..self.train_runs {
            self.models.train()?;
        }
        self.models.train()
    }

    fn give_up(&mut self, request: &Request, why: GivenUp) {
        self.models.give_up(request, why);
    }
}

struct Monotonic(Instant);

impl Clock for Monotonic {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

struct Files {
    models: PathBuf,
    data: PathBuf,
}

fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Models that serve, train, or both; every call makes sessions of its own.
fn load<'a>(files: &Files, train_runs: u32, correct: &'a Counter) -> Result<Scaled<'a>> {
    let engine = Engine::start(&library::find(None)?)?;
    let options = SessionOptions {
        batch: None,
        intra_op_threads: 1,
    };
    let (mut training, parameters) =
        TrainingSession::load(&engine, &files.models.join("train.onnx"), options)?;
    training.set_learning_rate(0.01);
    let options = SessionOptions {
        batch: Some(BATCH.into()),
        intra_op_threads: 1,
    };
    let model = files.models.join("infer.onnx");
    let inference = vec![InferenceSession::load(
        &engine,
        &model,
        options,
        Some(&parameters),
    )?];
    Ok(Scaled {
        models: Models {
            inference,
            training: Some(training),
            parameters: Some(parameters),
            batches: Batches::new(Records::open(&files.data)?, 1),
            held_out: HeldOut::all(Records::open(&files.data)?),
            correct,
        },
        train_runs,
    })
}

/// Median time of a minibatch, warm.
fn median_ns(mut once: impl FnMut() -> Result<()>) -> Result<u64> {
    let mut times = Vec::new();
    for _ in 0..31 {
        let start = Instant::now();
        once()?;
        times.push(u64::try_from(start.elapsed().as_nanos())?);
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// Trains back to back until told to stop; returns the steps.
fn train_until(models: &mut Scaled<'_>, done: &AtomicBool) -> Result<u64> {
    let mut steps = 0;
    while !done.load(Ordering::Relaxed) {
        models.train()?;
        steps += 1;
    }
    Ok(steps)
}

/// What one variant did.
#[derive(Clone, Copy, Default)]
struct Measured {
    served: u64,
    missed: u64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
    steps_per_s: f64,
}

/// Serves for some time on this thread, and trains in between if the assignment says so.
fn serve(
    models: &mut Scaled<'_>,
    assignment: Assignment,
    rate: MilliRps,
    seed: u64,
    run: Duration,
) -> Result<Measured> {
    let (clock, telemetry) = (Monotonic(Instant::now()), Telemetry::default());
    let (done, mut ring) = (AtomicBool::new(false), Ring::new());
    let (sender, receiver) = ring.split();
    let counts = receiver.counts();
    let places = models.models.held_out.count();
    let arrivals = Arrivals::new(Process::Poisson, rate, seed, 0).ok_or("a rate of zero")?;
    let (loop_thread, mut looping) = (
        thread::current(),
        Loop::new(&clock, models, receiver, &telemetry, assignment, rate),
    );
    thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            // A machine with one CPU keeps the feeder there.
            let _ = pin(1);
            let _ = nix::sys::prctl::set_timerslack(1);
            feed(&clock, sender, arrivals, places, seed, &loop_thread, &done);
        });
        let result = (|| {
            while clock.0.elapsed() < run {
                if let Turn::Wait { until_ns } = looping.turn()? {
                    let wait_ns = until_ns.unwrap_or(u64::MAX).saturating_sub(clock.now_ns());
                    thread::park_timeout(Duration::from_nanos(wait_ns.min(20_000_000)));
                }
            }
            Ok(())
        })();
        done.store(true, Ordering::Relaxed);
        result
    })?;
    let quantile_us = |millionths| telemetry.latency.quantile_ns(millionths) / 1_000;
    Ok(Measured {
        served: telemetry.served.get(),
        missed: telemetry.late.get() + counts.rejected() + telemetry.failed.get(),
        p50_us: quantile_us(500_000),
        p99_us: quantile_us(990_000),
        p999_us: quantile_us(999_000),
        max_us: telemetry.latency.max_ns() / 1_000,
        steps_per_s: telemetry.steps.get() as f64 / run.as_secs_f64(),
    })
}

/// A child that trains until its standard input closes, then prints its steps.
fn trainer(files: &Files, train_runs: u32) -> Result<()> {
    pin(0)?;
    let correct = Counter::default();
    let mut models = load(files, train_runs, &correct)?;
    let done = AtomicBool::new(false);
    println!("ready");
    std::io::stdout().flush()?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut line = String::new();
            let _ = std::io::stdin().read_line(&mut line);
            done.store(true, Ordering::Relaxed);
        });
        let start = Instant::now();
        let steps = train_until(&mut models, &done)?;
        println!("{}", steps as f64 / start.elapsed().as_secs_f64());
        Ok(())
    })
}

fn with_process(
    files: &Files,
    train_runs: u32,
    serve: impl FnOnce() -> Result<Measured>,
) -> Result<Measured> {
    use std::io::BufRead;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--trainer")
        .args([&files.models, &files.data])
        .arg(train_runs.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = std::io::BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    lines.next().ok_or("the trainer did not start")??;
    let measured = serve();
    drop(child.stdin.take());
    let steps_per_s = lines.next().ok_or("the trainer failed")??.parse()?;
    child.wait()?;
    Ok(Measured {
        steps_per_s,
        ..measured?
    })
}

fn with_thread(
    files: &Files,
    train_runs: u32,
    serve: impl FnOnce() -> Result<Measured>,
) -> Result<Measured> {
    let correct = Counter::default();
    let mut models = load(files, train_runs, &correct)?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let trainer = scope.spawn(|| -> std::result::Result<f64, String> {
            let start = Instant::now();
            let steps = train_until(&mut models, &done).map_err(|error| error.to_string())?;
            Ok(steps as f64 / start.elapsed().as_secs_f64())
        });
        let measured = serve();
        done.store(true, Ordering::Relaxed);
        let steps_per_s = trainer.join().map_err(|_| "the trainer panicked")??;
        Ok(Measured {
            steps_per_s,
            ..measured?
        })
    })
}

fn print(name: &str, repetition: u64, measured: &Measured) {
    let Measured {
        served,
        missed,
        p50_us,
        p99_us,
        p999_us,
        max_us,
        steps_per_s,
    } = measured;
    let per_mille = *missed as f64 * 1e3 / (served + missed).max(1) as f64;
    println!(
        "  {name:<10} {repetition:>3} {served:>8} {per_mille:>9.2} {p50_us:>8} {p99_us:>8} {p999_us:>8} {max_us:>8} {steps_per_s:>9.1}"
    );
}

fn compare(files: &Files, run: Duration, repetitions: u64) -> Result<()> {
    let correct = Counter::default();
    for train_runs in TRAIN_RUNS {
        let mut models = load(files, train_runs, &correct)?;
        let requests = [Request::default(); BATCH as usize];
        let infer_ns = median_ns(|| Ok(models.infer(&requests).map(|_| ())?))?;
        let train_ns = median_ns(|| Ok(models.train().map(|_| ())?))?;
        for load_percent in LOADS_PERCENT {
            let rate = u64::from(BATCH) * 1_000_000_000_000 / infer_ns * load_percent / 100;
            let rate = MilliRps(u32::try_from(rate)?);
            // Room for two steps and a second batch beyond the plan's own peak latency.
            let window_ns = u64::from(BATCH) * 1_000_000_000_000 / u64::from(rate.0);
            let budget_ns = window_ns + 2 * infer_ns + 2 * train_ns;
            println!(
                "batch of {BATCH} in {} us, step {} us, {:.0} requests/s ({load_percent} %), budget {} us",
                infer_ns / 1_000,
                train_ns / 1_000,
                f64::from(rate.0) / 1e3,
                budget_ns / 1_000
            );
            println!(
                "  variant    rep   served missed/k   p50 us   p99 us p99.9 us   max us   steps/s"
            );
            let assignment = |trains: bool| Assignment {
                serving: Some(Serving {
                    batch: BATCH,
                    infer_ns,
                    budget_ns,
                }),
                train_ns: trains.then_some(train_ns),
                overload: Overload::RejectNewest,
            };
            for repetition in 1..=repetitions {
                let alone = |models: &mut Scaled<'_>| {
                    serve(models, assignment(false), rate, repetition, run)
                };
                let managed = serve(&mut models, assignment(true), rate, repetition, run)?;
                print("managed", repetition, &managed);
                print(
                    "threads",
                    repetition,
                    &with_thread(files, train_runs, || alone(&mut models))?,
                );
                print(
                    "processes",
                    repetition,
                    &with_process(files, train_runs, || alone(&mut models))?,
                );
                print("inference", repetition, &alone(&mut models)?);
                let only = Assignment {
                    serving: None,
                    ..assignment(true)
                };
                print(
                    "training",
                    repetition,
                    &serve(&mut models, only, MilliRps(1), repetition, run)?,
                );
            }
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let is_trainer = arguments.first().is_some_and(|first| first == "--trainer");
    let arguments = &arguments[usize::from(is_trainer)..];
    let [models, data, rest @ ..] = arguments else {
        println!(
            "interleave: needs MODELS_DIR DATA.rec [SECONDS] [REPETITIONS]; nothing was measured"
        );
        return Ok(());
    };
    let files = Files {
        models: Path::new(models).to_path_buf(),
        data: Path::new(data).to_path_buf(),
    };
    if is_trainer {
        let runs = rest.first().map_or(Ok(1), |text| text.parse())?;
        return trainer(&files, runs);
    }
    let number =
        |index: usize, default: u64| rest.get(index).map_or(Ok(default), |text| text.parse());
    pin(0)?;
    compare(&files, Duration::from_secs(number(0, 5)?), number(1, 3)?)
}
