//! Managed interleaving against what people do today, with real models on one set of cores:
//!
//! ```text
//! cargo bench -p fulcrum-runtime --bench interleave -- [--cores 1|2] [--loads 20,50,90] [--steps 1,10,100]
//!     [--seconds 5] [--repetitions 3] [--models DIR] [--data FILE.rec]
//! ```
//!
//! Variants, in turn and repeated:
//! - **managed**: the loop of `fulcrumd`, one thread, one minibatch at a time;
//! - **threads**: native sharing, the same loop without training beside a thread that trains back to back;
//! - **processes**: the same with the training in a process of its own;
//! - **equal**: managed again, at the rate that `threads` answered in time: what training gets out of requests
//!   that are missed, managed gets here too;
//! - **inference**, **training**: each alone.
//!
//! Minibatches are runs of the same model one after the other, as of a deeper one, so that training steps
//! from a tenth to ten times an inference minibatch can be compared (`--steps`: runs per step, where an inference
//! minibatch is 40). The models are the shipped digits and the data those that `fulcrum demo` leaves in its
//! cache, unless others are given: `DIR` holds `infer.onnx` (its batch free), `train.onnx` and `train.params`.
//! All variants run on the same cores, CPU 0 or CPUs 0 and 1, with as many threads per session. Whoever sends the
//! requests runs on CPU 1, because clients are not part of the shared device. Latency counts from when a
//! request was due.

use fulcrum_plan::units::MilliRps;
use fulcrum_runtime::arrivals::{Arrivals, Process};
use fulcrum_runtime::data::{Batches, HeldOut, Records};
use fulcrum_runtime::engine::{Engine, InferenceSession, SessionOptions, TrainingSession, library};
use fulcrum_runtime::feeder::feed;
use fulcrum_runtime::models::Models;
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

/// Requests per batch.
const BATCH: u16 = 16;
/// Runs of the model that make one inference minibatch: a model that is this many times as deep. A few
/// milliseconds, so that a feeder can send requests faithfully.
const INFER_RUNS: u32 = 40;

/// What is compared.
#[derive(Clone)]
struct Options {
    models: PathBuf,
    data: PathBuf,
    /// CPUs that every variant may use, and threads per session.
    cores: u16,
    /// Shares of what inference alone can serve, in per cent.
    loads: Vec<u64>,
    /// Runs of the model that make one training step.
    steps: Vec<u32>,
    run: Duration,
    repetitions: u64,
}

impl Options {
    fn read(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
        let mut options = Self {
            models: Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/models/digits"),
            data: cache
                .unwrap_or_else(home)
                .join("fulcrum/digits-1/train.rec"),
            cores: 1,
            loads: vec![20, 50, 90],
            // About a tenth of, as much as, and ten times the inference minibatch.
            steps: vec![1, 10, 100],
            run: Duration::from_secs(5),
            repetitions: 3,
        };
        let mut arguments = arguments;
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(format!("{name} needs a value"))?;
            match name.as_str() {
                "--cores" => options.cores = value.parse()?,
                "--loads" => options.loads = list(&value)?,
                "--steps" => options.steps = list(&value)?,
                "--seconds" => options.run = Duration::from_secs_f64(value.parse()?),
                "--repetitions" => options.repetitions = value.parse()?,
                "--models" => options.models = value.into(),
                "--data" => options.data = value.into(),
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        Ok(options)
    }
}

fn list<T: std::str::FromStr<Err: Error + 'static>>(text: &str) -> Result<Vec<T>> {
    text.split(',').map(|item| Ok(item.parse()?)).collect()
}

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

/// The first CPUs.
fn pin(cores: u16) -> Result<()> {
    let mut set = CpuSet::new();
    for cpu in 0..usize::from(cores) {
        set.set(cpu)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Where clients run: not on the shared device, if the machine has a second CPU.
fn pin_client() -> Result<()> {
    let mut set = CpuSet::new();
    set.set(1)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Models that serve, train, or both; every call makes sessions of its own.
fn load<'a>(files: &Options, train_runs: u32, correct: &'a Counter) -> Result<Scaled<'a>> {
    let engine = Engine::start(&library::find(None)?)?;
    let options = SessionOptions {
        batch: None,
        intra_op_threads: files.cores,
    };
    let (mut training, parameters) =
        TrainingSession::load(&engine, &files.models.join("train.onnx"), options)?;
    training.set_learning_rate(0.01);
    let options = SessionOptions {
        batch: Some(BATCH.into()),
        intra_op_threads: files.cores,
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
            bulk: Vec::new(),
            training: Some(training),
            parameters: Some(parameters),
            steps: 0,
            keeping: None,
            served: None,
            validation: None,
            keeping_served: None,
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
    /// Answered, late or not.
    served: u64,
    /// Late, rejected or failed.
    missed: u64,
    arrived: u64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
    steps_per_s: f64,
}

impl Measured {
    fn missed_per_mille(&self) -> f64 {
        self.missed as f64 * 1e3 / self.arrived.max(1) as f64
    }
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
            let _ = pin_client();
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
        arrived: counts.arrived(),
        p50_us: quantile_us(500_000),
        p99_us: quantile_us(990_000),
        p999_us: quantile_us(999_000),
        max_us: telemetry.latency.max_ns() / 1_000,
        steps_per_s: telemetry.steps.get() as f64 / run.as_secs_f64(),
    })
}

/// A child that trains until its standard input closes, then prints its steps.
fn trainer(files: &Options) -> Result<()> {
    let train_runs = files.steps[0];
    pin(files.cores)?;
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
    files: &Options,
    train_runs: u32,
    serve: impl FnOnce() -> Result<Measured>,
) -> Result<Measured> {
    use std::io::BufRead;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--trainer")
        .args(["--steps", &train_runs.to_string()])
        .args(["--cores", &files.cores.to_string()])
        .args([Path::new("--models"), &files.models])
        .args([Path::new("--data"), &files.data])
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
    files: &Options,
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
        p50_us,
        p99_us,
        p999_us,
        max_us,
        steps_per_s,
        ..
    } = measured;
    let per_mille = measured.missed_per_mille();
    println!(
        "  {name:<10} {repetition:>3} {served:>8} {per_mille:>9.2} {p50_us:>8} {p99_us:>8} {p999_us:>8} {max_us:>8} {steps_per_s:>9.1}"
    );
}

/// Of one kind of step at one load, every repetition's pair of managed and another variant.
#[derive(Default)]
struct Ratios {
    steps: Vec<f64>,
    missed: Vec<(f64, f64)>,
}

impl Ratios {
    fn add(&mut self, managed: &Measured, other: &Measured) {
        self.steps.push(managed.steps_per_s / other.steps_per_s);
        self.missed
            .push((managed.missed_per_mille(), other.missed_per_mille()));
    }

    fn print(&mut self, other: &str) {
        self.steps.sort_by(f64::total_cmp);
        let fewer = self
            .missed
            .iter()
            .filter(|(managed, other)| managed <= other)
            .count();
        let (first, last) = (self.steps.first(), self.steps.last());
        println!(
            "  managed over {other}: steps/s x {:.3} (median; {:.3} to {:.3}), no more missed in {fewer} of {}",
            self.steps[self.steps.len() / 2],
            first.unwrap_or(&f64::NAN),
            last.unwrap_or(&f64::NAN),
            self.missed.len()
        );
    }
}

fn compare(options: &Options) -> Result<()> {
    let correct = Counter::default();
    for &train_runs in &options.steps {
        let mut models = load(options, train_runs, &correct)?;
        let requests = [Request::default(); BATCH as usize];
        let infer_ns = median_ns(|| Ok(models.infer(&requests).map(|_| ())?))?;
        let train_ns = median_ns(|| Ok(models.train().map(|_| ())?))?;
        for &load_percent in &options.loads {
            let rate = u64::from(BATCH) * 1_000_000_000_000 / infer_ns * load_percent / 100;
            let rate = MilliRps(u32::try_from(rate)?);
            // Room for two steps and a second batch beyond the plan's own peak latency.
            let window_ns = u64::from(BATCH) * 1_000_000_000_000 / u64::from(rate.0);
            let budget_ns = window_ns + 2 * infer_ns + 2 * train_ns;
            println!(
                "batch of {BATCH} in {} us, step {} us, {:.0} requests/s ({load_percent} %), budget {} us, {} core(s)",
                infer_ns / 1_000,
                train_ns / 1_000,
                f64::from(rate.0) / 1e3,
                budget_ns / 1_000,
                options.cores
            );
            println!(
                "  variant    rep   served missed/k   p50 us   p99 us p99.9 us   max us   steps/s"
            );
            let case = Case {
                train_runs,
                rate,
                infer_ns,
                train_ns,
                budget_ns,
            };
            case.compare(options, &mut models)?;
        }
    }
    Ok(())
}

/// One length of steps at one load.
struct Case {
    train_runs: u32,
    rate: MilliRps,
    infer_ns: u64,
    train_ns: u64,
    budget_ns: u64,
}

impl Case {
    fn assignment(&self, trains: bool) -> Assignment {
        Assignment {
            serving: Some(Serving {
                batch: BATCH,
                infer_ns: self.infer_ns,
                budget_ns: self.budget_ns,
            }),
            train_ns: trains.then_some(self.train_ns),
            bulk: None,
            overload: Overload::RejectNewest,
        }
    }

    fn compare(&self, options: &Options, models: &mut Scaled<'_>) -> Result<()> {
        let (run, rate) = (options.run, self.rate);
        let (mut threads_ratios, mut processes_ratios, mut equal_ratios) =
            (Ratios::default(), Ratios::default(), Ratios::default());
        for repetition in 1..=options.repetitions {
            let alone = |models: &mut Scaled<'_>| {
                serve(models, self.assignment(false), rate, repetition, run)
            };
            let managed = serve(models, self.assignment(true), rate, repetition, run)?;
            print("managed", repetition, &managed);
            let threads = with_thread(options, self.train_runs, || alone(models))?;
            print("threads", repetition, &threads);
            let processes = with_process(options, self.train_runs, || alone(models))?;
            print("processes", repetition, &processes);
            let in_time = 1.0 - threads.missed_per_mille() / 1e3;
            let equal_rate = MilliRps((f64::from(rate.0) * in_time) as u32);
            let equal = serve(models, self.assignment(true), equal_rate, repetition, run)?;
            print("equal", repetition, &equal);
            print("inference", repetition, &alone(models)?);
            let only = Assignment {
                serving: None,
                ..self.assignment(true)
            };
            let training = serve(models, only, MilliRps(1), repetition, run)?;
            print("training", repetition, &training);
            threads_ratios.add(&managed, &threads);
            processes_ratios.add(&managed, &processes);
            equal_ratios.add(&equal, &threads);
        }
        threads_ratios.print("threads");
        processes_ratios.print("processes");
        equal_ratios.print("threads at their requests in time");
        Ok(())
    }
}

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let is_trainer = arguments.first().is_some_and(|first| first == "--trainer");
    arguments.drain(..usize::from(is_trainer));
    let options = Options::read(arguments.into_iter())?;
    if !options.data.is_file() {
        println!(
            "interleave: {} is missing (`fulcrum demo` makes it, or give --data); nothing was measured",
            options.data.display()
        );
        return Ok(());
    }
    if is_trainer {
        return trainer(&options);
    }
    pin(options.cores)?;
    compare(&options)
}
