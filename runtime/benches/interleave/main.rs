//! Managed interleaving against what people do today, with real models on one device:
//!
//! ```text
//! cargo bench -p fulcrum-runtime --bench interleave -- [--provider cpu|cuda] [--cores 1|2] [--loads 20,50,90]
//!     [--steps 1,10,100] [--pieces 10] [--budget-ms MS] [--variants managed,threads,…] [--seconds 5] [--slices 5]
//!     [--repetitions 3] [--models DIR] [--data FILE.rec] [--batch 16] [--infer-runs 40]
//! ```
//!
//! Variants, in turn and repeated; within a repetition in slices that take turns, because the machine's pace changes. Before
//! every round of slices it is measured, and the round's request rate and budget follow from it:
//! - **managed**: the loop of `fulcrumd` with its watchdog, one minibatch at a time;
//! - **pieces**: the same with each step in `--pieces` parts, as accumulation of gradients cuts it; counted in whole
//!   steps;
//! - **threads**: native sharing, the same loop without training beside a thread that trains back to back; its queue
//!   takes whoever comes, as `--overload answer-late` and a server of today do;
//! - **processes**: the same with the training in a process of its own;
//! - **admitted**: `threads` with the loop's own queue in front, which rejects who could not be answered in time;
//! - **share**: managed with `--train-share`, in every slice the share of the time that makes its steps so far as many as
//!   those of the better of `threads` and `processes`: as much training at the same arrivals. In parts, if steps can be
//!   cut;
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
use fulcrum_runtime::schedule::{Assignment, Overload, Policy, Serving};
use fulcrum_runtime::serve::{Clock, Loop, Turn};
use fulcrum_runtime::telemetry::Counter;
use fulcrum_runtime::watchdog::Watchdog;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use options::Options;
use scaled::{Scaled, mean_ns};
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use table::{Ratios, Tally, print, print_head, print_pace};
use trainer::Trainer;

const VARIANTS: [&str; 8] = [
    "managed",
    "pieces",
    "threads",
    "processes",
    "admitted",
    "share",
    "inference",
    "training",
];

/// Most that `share` asks for. Native sharing gives training half of the time, a little more, and what inference leaves,
/// and the gaps give it that, too: far above, only the pace has changed.
const SHARE_MAX: f64 = 0.7;
/// How far `share` tries to be ahead: nothing makes up for what its last slice lacks.
const SHARE_AHEAD: f64 = 0.03;

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
        for &load_percent in &options.loads {
            println!(
                "load {load_percent} %, steps of {train_runs} runs, {} core(s), {}",
                options.cores, options.provider
            );
            let case = Case {
                options,
                train_runs,
                load_percent,
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
    load_percent: u64,
}

/// What every slice of a round is for, by the pace just before.
#[derive(Clone, Copy)]
struct Round {
    seed: u64,
    infer_ns: u64,
    train_ns: u64,
    rate: MilliRps,
    budget_ns: u64,
}

impl Round {
    /// Serves batches of a size, and trains if it is asked to.
    fn assignment(&self, batch: u16, trains: bool, policy: Policy) -> Assignment {
        Assignment {
            serving: Some(Serving {
                batch,
                infer_ns: self.infer_ns,
                budget_ns: self.budget_ns,
            }),
            train_ns: trains.then_some(self.train_ns),
            bulk: None,
            policy,
        }
    }
}

impl Case<'_> {
    /// Measures the pace.
    ///
    /// # Errors
    /// A minibatch fails.
    fn round(&self, models: &mut Scaled<'_>, seed: u64) -> Result<Round> {
        let Options {
            batch, budget_ms, ..
        } = *self.options;
        let (infer_ns, train_ns) = mean_ns(models, &vec![Request::default(); batch.into()])?;
        let full_ns = u64::from(batch) * 1_000_000_000_000;
        let rate = MilliRps(u32::try_from(full_ns / infer_ns * self.load_percent / 100)?);
        // Room for two steps and a second batch beyond the plan's own peak latency.
        let window_ns = full_ns / u64::from(rate.0);
        let room_ns = window_ns + 2 * infer_ns + 2 * train_ns;
        let given_ns = budget_ms.map(|given_ms| given_ms * 1_000_000);
        Ok(Round {
            seed,
            infer_ns,
            train_ns,
            rate,
            budget_ns: given_ns.unwrap_or(room_ns),
        })
    }

    fn compare(&self, models: &mut Scaled<'_>, native: &mut Native<'_>) -> Result<()> {
        let mut ratios = [
            ("managed", "threads"),
            ("managed", "processes"),
            ("pieces", "threads"),
            ("pieces", "processes"),
            ("share", "threads"),
            ("share", "processes"),
            ("managed", "admitted"),
            ("share", "admitted"),
        ]
        .map(|(one, other)| Ratios::new(one, other));
        for repetition in 1..=self.options.repetitions {
            let mut tallies: Vec<(&str, Tally)> = VARIANTS
                .into_iter()
                .filter(|variant| self.has(variant))
                .map(|variant| (variant, Tally::default()))
                .collect();
            let mut rounds = Vec::new();
            for slice in 0..self.options.slices {
                let round = self.round(models, repetition << 32 | u64::from(slice))?;
                for index in 0..tallies.len() {
                    let share = self.native_share(&round, &tallies);
                    let (variant, tally) = &mut tallies[index];
                    self.run(variant, &round, models, native, share, tally)?;
                }
                rounds.push(round);
            }
            print_pace(&rounds);
            print_head();
            for (variant, tally) in &tallies {
                print(variant, repetition, tally);
            }
            for ratio in &mut ratios {
                ratio.add(&tallies);
            }
        }
        for ratio in &mut ratios {
            ratio.print();
        }
        Ok(())
    }

    /// The share of a slice that `share` needs to have done as many steps as the better kind of native sharing.
    fn native_share(&self, round: &Round, tallies: &[(&str, Tally)]) -> f64 {
        let of = |wanted| tallies.iter().find(|(name, _)| *name == wanted);
        let steps = |wanted| of(wanted).map_or(0.0, |(_, tally)| tally.steps);
        let wanted = steps("threads").max(steps("processes")) * (1.0 + SHARE_AHEAD);
        let missing = wanted - steps("share");
        let step_s = of("managed").and_then(|(_, tally)| tally.step_s());
        let step_s = step_s.unwrap_or(round.train_ns as f64 / 1e9);
        (missing * step_s / self.slice().as_secs_f64()).clamp(0.0, SHARE_MAX)
    }

    /// Whether a variant is asked for, and possible.
    fn has(&self, variant: &str) -> bool {
        let possible = variant != "pieces" || self.can_be_cut();
        possible && self.options.has(variant)
    }

    fn can_be_cut(&self) -> bool {
        self.train_runs.is_multiple_of(self.options.pieces)
    }

    /// Runs a slice of a variant.
    fn run(
        &self,
        variant: &str,
        round: &Round,
        models: &mut Scaled<'_>,
        native: &mut Native<'_>,
        share: f64,
        tally: &mut Tally,
    ) -> Result<()> {
        let slice_s = self.slice().as_secs_f64();
        let policy = |overload, train_share_per_mille| Policy {
            overload,
            train_share_per_mille,
        };
        let admitting = policy(Overload::RejectNewest, 0);
        let assignment = |trains, policy| round.assignment(self.options.batch, trains, policy);
        let managed = assignment(true, admitting);
        let mut on_thread = |models: &mut Scaled<'_>, policy, tally: &mut Tally| {
            let trainer = native.thread.as_mut().ok_or("no models for a thread")?;
            let serving = assignment(false, policy);
            let steps_per_s =
                trainer::on_thread(trainer, || self.serve(models, serving, round, 1, tally))?;
            tally.steps += steps_per_s * slice_s;
            Ok(())
        };
        match variant {
            "managed" => self.serve(models, managed, round, 1, tally),
            "pieces" => self.serve(models, managed, round, self.options.pieces, tally),
            "threads" => on_thread(models, policy(Overload::AnswerLate, 0), tally),
            "admitted" => on_thread(models, admitting, tally),
            "processes" => {
                let trainer = native.process.as_mut().ok_or("no process")?;
                let serving = assignment(false, policy(Overload::AnswerLate, 0));
                let steps_per_s =
                    trainer.beside(|| self.serve(models, serving, round, 1, tally))?;
                tally.steps += steps_per_s * slice_s;
                Ok(())
            }
            "share" => {
                let share_per_mille = (share * 1e3) as u16;
                let promised = assignment(true, policy(Overload::RejectNewest, share_per_mille));
                let cut = self.can_be_cut();
                let pieces = if cut { self.options.pieces } else { 1 };
                self.serve(models, promised, round, pieces, tally)
            }
            "inference" => self.serve(models, assignment(false, admitting), round, 1, tally),
            _ => {
                let only = Assignment {
                    serving: None,
                    ..managed
                };
                self.serve(models, only, round, 1, tally)
            }
        }
    }

    fn slice(&self) -> Duration {
        self.options.run / self.options.slices
    }

    /// Serves for a slice of time on this thread, and trains in between if the assignment says so, each step in pieces.
    fn serve(
        &self,
        models: &mut Scaled<'_>,
        assignment: Assignment,
        round: &Round,
        pieces: u32,
        tally: &mut Tally,
    ) -> Result<()> {
        let seed = round.seed;
        let assignment = Assignment {
            train_ns: assignment
                .train_ns
                .map(|train_ns| train_ns / u64::from(pieces)),
            ..assignment
        };
        models.train_runs = self.train_runs / pieces;
        let (clock, telemetry) = (Monotonic(Instant::now()), &tally.telemetry);
        let steps_before = telemetry.steps.get();
        let (done, mut ring) = (AtomicBool::new(false), Ring::new());
        let (sender, receiver) = ring.split();
        let counts = receiver.counts();
        let places = models.models.held_out.count();
        let training = models.models.training.as_ref();
        let cancel = training.map(TrainingSession::cancel_handle);
        // Of those who do not serve nobody asks anything.
        let rate = assignment.serving.map_or(MilliRps(1), |_| round.rate);
        let arrivals = Arrivals::new(Process::Poisson, rate, seed, 0).ok_or("a rate of zero")?;
        let (watchdog, loop_thread) = (Watchdog::default(), thread::current());
        let mut looping = Loop::new(&clock, &mut *models, receiver, telemetry, assignment, rate)
            .with_watchdog(&watchdog);
        let (run, cores) = (self.slice(), self.options.cores);
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
        let (ended_ns, (_, mut left)) = (clock.now_ns(), looping.into_parts());
        let (mut waiting, mut overdue) = (0, 0);
        while let Some(request) = left.take() {
            let waited_ns = ended_ns.saturating_sub(request.arrival_ns);
            let is_overdue = waited_ns > round.budget_ns;
            *(if is_overdue {
                &mut overdue
            } else {
                &mut waiting
            }) += 1;
        }
        models.train_runs = self.train_runs;
        let steps = tally.telemetry.steps.get() - steps_before;
        tally.steps += steps as f64 / f64::from(pieces);
        tally.seconds += run.as_secs_f64();
        // Of whoever still waits only those are missed who have waited for too long already.
        tally.overdue += overdue;
        tally.arrived += counts.arrived() - waiting;
        tally.rejected += counts.rejected();
        Ok(())
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
