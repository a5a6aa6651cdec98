//! Managed interleaving against what people do today, with real models on one device:
//!
//! ```text
//! cargo bench -p fulcrum-runtime --bench interleave -- [--provider cpu|cuda] [--cores 1|2] [--loads 20,50,90]
//!     [--steps 1,10,100] [--pieces 10] [--budget-ms MS] [--variants managed,threads,…] [--seconds 5] [--repetitions 3]
//!     [--models DIR] [--data FILE.rec] [--batch 16] [--infer-runs 40]
//! ```
//!
//! Variants, in turn and repeated:
//! - **managed**: the loop of `fulcrumd` with its watchdog, one minibatch at a time;
//! - **pieces**: the same with each step in `--pieces` parts, as accumulation of gradients cuts it; counted in whole
//!   steps;
//! - **threads**: native sharing, the same loop without training beside a thread that trains back to back;
//! - **processes**: the same with the training in a process of its own;
//! - **equal**: managed again, at the rate that `threads` answered in time: what training gets out of requests
//!   that are missed, managed gets here too;
//! - **inference**, **training**: each alone.
//!
//! Minibatches are runs of the same model one after the other, as of a deeper one, so that training steps
//! from a tenth to ten times an inference minibatch can be compared (`--steps`: runs per step; `--infer-runs`: per
//! inference minibatch, a few milliseconds, so that a feeder can send requests faithfully). The models are the
//! shipped digits and the data those that `fulcrum demo` leaves in its cache, unless others are given: `DIR` holds
//! `infer.onnx` (its batch free), `train.onnx` and `train.params`.
//! All variants run on the same cores, the first `--cores`, with as many threads per session. Whoever sends the
//! requests runs on the next one, or on CPU 1, because clients are not part of the shared device. Latency counts
//! from when a request was due. With `--provider cuda` the device is the GPU: every session has a stream of its own,
//! so that `threads` are two streams, and `processes` two contexts.

mod options;
mod scaled;
mod table;
mod trainer;

use fulcrum_plan::units::MilliRps;
use fulcrum_runtime::arrivals::{Arrivals, Process};
use fulcrum_runtime::engine::TrainingSession;
use fulcrum_runtime::feeder::feed;
use fulcrum_runtime::queue::{Request, Ring};
use fulcrum_runtime::schedule::{Assignment, Policy, Serving};
use fulcrum_runtime::serve::{Clock, Loop, Turn, Work};
use fulcrum_runtime::telemetry::{Counter, Telemetry};
use fulcrum_runtime::watchdog::Watchdog;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use options::Options;
use scaled::{Scaled, median_ns};
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use table::{Measured, Ratios, print, print_head};
use trainer::Trainer;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Monotonic(Instant);

impl Clock for Monotonic {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

fn pin_to(cpus: impl IntoIterator<Item = u16>) -> nix::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(cpu.into())?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
}

fn compare(options: &Options) -> Result<()> {
    let correct = Counter::default();
    for &train_runs in &options.steps {
        let load = || Scaled::load(options, train_runs, &correct);
        let mut models = load()?;
        let mut native = Native {
            thread: options.has("threads").then(load).transpose()?,
            process: options
                .has("processes")
                .then(|| Trainer::start(options, train_runs))
                .transpose()?,
        };
        let requests = vec![Request::default(); options.batch.into()];
        let infer_ns = median_ns(|| models.infer(&requests).map(drop))?;
        let train_ns = median_ns(|| models.train().map(drop))?;
        for &load_percent in &options.loads {
            let full_ns = u64::from(options.batch) * 1_000_000_000_000;
            let rate = MilliRps(u32::try_from(full_ns / infer_ns * load_percent / 100)?);
            // Room for two steps and a second batch beyond the plan's own peak latency.
            let window_ns = full_ns / u64::from(rate.0);
            let room_ns = window_ns + 2 * infer_ns + 2 * train_ns;
            let given_ns = options.budget_ms.map(|given_ms| given_ms * 1_000_000);
            let budget_ns = given_ns.unwrap_or(room_ns);
            println!(
                "batch of {} in {} us, step {} us, {:.0} requests/s ({load_percent} %), budget {} us, {} core(s), {}",
                options.batch,
                infer_ns / 1_000,
                train_ns / 1_000,
                f64::from(rate.0) / 1e3,
                budget_ns / 1_000,
                options.cores,
                options.provider
            );
            print_head();
            let case = Case {
                options,
                train_runs,
                rate,
                infer_ns,
                train_ns,
                budget_ns,
            };
            case.compare(&mut models, &mut native)?;
        }
    }
    Ok(())
}

/// Whoever trains in native sharing, as far as it is asked for.
struct Native<'a> {
    thread: Option<Scaled<'a>>,
    process: Option<Trainer>,
}

/// One length of steps at one load.
struct Case<'a> {
    options: &'a Options,
    train_runs: u32,
    rate: MilliRps,
    infer_ns: u64,
    train_ns: u64,
    budget_ns: u64,
}

impl Case<'_> {
    fn assignment(&self, train_ns: Option<u64>) -> Assignment {
        Assignment {
            serving: Some(Serving {
                batch: self.options.batch,
                infer_ns: self.infer_ns,
                budget_ns: self.budget_ns,
            }),
            train_ns,
            bulk: None,
            policy: Policy::default(),
        }
    }

    fn compare(&self, models: &mut Scaled<'_>, native: &mut Native<'_>) -> Result<()> {
        let mut ratios = [
            ("managed", "threads"),
            ("managed", "processes"),
            ("pieces", "threads"),
            ("pieces", "processes"),
            ("equal", "threads"),
        ]
        .map(|(one, other)| Ratios::new(one, other));
        for repetition in 1..=self.options.repetitions {
            let mut done: Vec<(&str, Measured)> = Vec::new();
            for variant in [
                "managed",
                "pieces",
                "threads",
                "processes",
                "equal",
                "inference",
                "training",
            ] {
                if !self.options.has(variant) {
                    continue;
                }
                if let Some(measured) = self.run(variant, repetition, models, native, &done)? {
                    print(variant, repetition, &measured);
                    done.push((variant, measured));
                }
            }
            for ratio in &mut ratios {
                ratio.add(&done);
            }
        }
        for ratio in &mut ratios {
            ratio.print();
        }
        Ok(())
    }

    /// Runs one variant; `None` if there is no such thing here.
    fn run(
        &self,
        variant: &str,
        seed: u64,
        models: &mut Scaled<'_>,
        native: &mut Native<'_>,
        done: &[(&str, Measured)],
    ) -> Result<Option<Measured>> {
        let (train_runs, rate) = (self.train_runs, self.rate);
        let alone = |models: &mut Scaled<'_>| self.serve(models, self.assignment(None), rate, seed);
        let managed = self.assignment(Some(self.train_ns));
        let measured = match variant {
            "managed" => self.serve(models, managed, rate, seed),
            "pieces" => {
                let pieces = self.options.pieces;
                if !train_runs.is_multiple_of(pieces) {
                    return Ok(None);
                }
                models.train_runs = train_runs / pieces;
                let assignment = self.assignment(Some(self.train_ns / u64::from(pieces)));
                let measured = self.serve(models, assignment, rate, seed);
                models.train_runs = train_runs;
                measured.map(|measured| Measured {
                    steps_per_s: measured.steps_per_s / f64::from(pieces),
                    ..measured
                })
            }
            "threads" => match &mut native.thread {
                Some(trainer) => trainer::on_thread(trainer, || alone(models)),
                None => return Ok(None),
            },
            "processes" => match &mut native.process {
                Some(trainer) => trainer.beside(|| alone(models)),
                None => return Ok(None),
            },
            "equal" => {
                let Some((_, threads)) = done.iter().find(|(name, _)| *name == "threads") else {
                    return Ok(None);
                };
                let in_time = 1.0 - threads.missed_per_mille() / 1e3;
                let rate = MilliRps((f64::from(rate.0) * in_time) as u32);
                self.serve(models, managed, rate, seed)
            }
            "inference" => alone(models),
            _ => {
                let only = Assignment {
                    serving: None,
                    ..managed
                };
                self.serve(models, only, MilliRps(1), seed)
            }
        };
        measured.map(Some)
    }

    /// Serves for some time on this thread, and trains in between if the assignment says so.
    fn serve(
        &self,
        models: &mut Scaled<'_>,
        assignment: Assignment,
        rate: MilliRps,
        seed: u64,
    ) -> Result<Measured> {
        let (clock, telemetry) = (Monotonic(Instant::now()), Telemetry::default());
        let (done, mut ring) = (AtomicBool::new(false), Ring::new());
        let (sender, receiver) = ring.split();
        let counts = receiver.counts();
        let places = models.models.held_out.count();
        let training = models.models.training.as_ref();
        let cancel = training.map(TrainingSession::cancel_handle);
        let arrivals = Arrivals::new(Process::Poisson, rate, seed, 0).ok_or("a rate of zero")?;
        let (watchdog, loop_thread) = (Watchdog::default(), thread::current());
        let mut looping = Loop::new(&clock, models, receiver, &telemetry, assignment, rate)
            .with_watchdog(&watchdog);
        let (run, cores) = (self.options.run, self.options.cores);
        thread::scope(|scope| -> Result<()> {
            scope.spawn(|| {
                // A machine with one CPU keeps the feeder there.
                let _ = pin_to([cores]).or_else(|_| pin_to([1]));
                let _ = nix::sys::prctl::set_timerslack(1);
                feed(&clock, sender, arrivals, places, seed, &loop_thread, &done);
            });
            if let Some(cancel) = cancel {
                let (watchdog, clock, done) = (&watchdog, &clock, &done);
                scope.spawn(move || {
                    watchdog.run(|| clock.now_ns(), counts, || cancel.cancel(), done);
                });
            }
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
            steps_lost: telemetry.steps_lost.get(),
        })
    }
}

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let is_trainer = arguments
        .first()
        .is_some_and(|first| first == trainer::ARGUMENT);
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
        return trainer::obey(&options);
    }
    pin_to(0..options.cores)?;
    compare(&options)
}
