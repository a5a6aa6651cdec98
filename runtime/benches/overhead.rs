//! What the loop costs beside bare calls into ONNX Runtime: the digits model, whose training step takes about
//! 300 µs, the same minibatches in the same order, in turn on one thread.
//!
//! ```text
//! cargo bench -p fulcrum-runtime --bench overhead
//! ```
//!
//! - **loop**: what `fulcrumd run` does: queue, schedule, guard, telemetry, watchdog, the next samples, the engine;
//! - **calls**: the same sessions, each minibatch with its next samples, without the loop;
//! - **bare**: sessions of the same files, run by ONNX Runtime's C call; samples are copied in, but in the order of the
//!   file.
//!
//! Samples change with every minibatch in all three: over the same ones again and again a processor predicts the
//! branches of the operators, which makes a step quicker by a tenth. Where a session's memory lies changes its pace by a per cent and more, so sessions are loaded several times.
//! Needs an ONNX Runtime library (`fulcrum engine install`) and the digits that `fulcrum demo` leaves in its cache.

mod bare;

use bare::{BATCH, Bare, model};
use fulcrum_plan::PowerMode;
use fulcrum_plan::problem::Demand;
use fulcrum_plan::select::{Problem, select};
use fulcrum_plan::table::{Cell, PlanTable, Provenance, Row, Workload};
use fulcrum_plan::units::{Khz, MicroSec, MilliRps, MilliWatt};
use fulcrum_runtime::arrivals::{Arrivals, Process};
use fulcrum_runtime::control::{Control, Duty, Events, Readings, SetMode};
use fulcrum_runtime::data::{Batches, HeldOut, Records};
use fulcrum_runtime::engine::{Engine, InferenceSession, SessionOptions, TrainingSession, library};
use fulcrum_runtime::guard::Guard;
use fulcrum_runtime::models::Models;
use fulcrum_runtime::queue::{Request, Ring};
use fulcrum_runtime::random::Random;
use fulcrum_runtime::schedule::Policy;
use fulcrum_runtime::serve::{Clock, GivenUp, Loop, Turn, Work, WorkError};
use fulcrum_runtime::telemetry::{Counter, Telemetry};
use fulcrum_runtime::watchdog::Watchdog;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How often the sessions are loaded.
const PLACEMENTS: usize = 6;
/// Rounds of all three in turn, per placement.
const ROUNDS: usize = 100;
/// Minibatches before each round that do not count: caches are cold, and pages new.
const WARM: usize = 10;
/// Minibatches per round.
const MINIBATCHES: usize = 50;
/// A batch of requests arrives in as many times of an inference minibatch.
const WINDOW: u64 = 4;

struct Monotonic(Instant);

impl Clock for Monotonic {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[derive(Clone, Copy)]
enum Minibatch {
    Infer,
    Train,
}

/// Models that remember what they were asked for, and how long it took.
struct Recorder<'a, 'b> {
    models: &'a mut Models<'b>,
    order: &'a mut Vec<Minibatch>,
    inside_ns: u64,
}

impl<'b> Recorder<'_, 'b> {
    fn record<T>(&mut self, minibatch: Minibatch, run: impl FnOnce(&mut Models<'b>) -> T) -> T {
        self.order.push(minibatch);
        let began = Instant::now();
        let result = run(self.models);
        if self.order.len() > WARM {
            self.inside_ns += began.elapsed().as_nanos() as u64;
        }
        result
    }
}

impl Work for Recorder<'_, '_> {
    fn infer(&mut self, requests: &[Request]) -> std::result::Result<usize, WorkError> {
        self.record(Minibatch::Infer, |models| models.infer(requests))
    }

    fn train(&mut self) -> std::result::Result<f32, WorkError> {
        self.record(Minibatch::Train, Models::train)
    }

    fn upkeep(&mut self) -> bool {
        self.models.upkeep()
    }

    fn give_up(&mut self, request: &Request, why: GivenUp) {
        self.models.give_up(request, why);
    }
}

/// A board whose mode is what it is.
struct Fixed;

impl SetMode for Fixed {
    fn set_mode(&mut self, _: &PowerMode) -> bool {
        true
    }
}

/// A plan of one mode, with the times of this machine.
fn plan(infer_ns: u64, train_ns: u64) -> Result<PlanTable> {
    let cell = |time_ns: u64| -> Result<_> {
        Ok(Some(Cell {
            time_us: MicroSec(u32::try_from(time_ns.div_ceil(1_000))?),
            power_mw: MilliWatt(20_000),
        }))
    };
    let workload = |name: &str| -> Result<_> {
        Ok(Workload {
            name: name.try_into().map_err(|_| "a name is too long")?,
            batches: [u16::try_from(BATCH)?].into_iter().collect(),
        })
    };
    let row = Row {
        mode: PowerMode {
            cores: 1,
            cpu_khz: Khz(1),
            gpu_khz: Khz(1),
            emc_khz: Khz(1),
        },
        cells: [cell(train_ns)?, cell(infer_ns)?].into_iter().collect(),
    };
    Ok(PlanTable {
        board: "orin-agx".try_into().map_err(|_| "a name is too long")?,
        provenance: Provenance::default(),
        train: Some(workload("train")?),
        infer: [workload("infer")?].into_iter().collect(),
        rows: [row].into_iter().collect(),
    })
}

fn load<'a>(engine: &Engine, data: &Path, correct: &'a Counter) -> Result<Models<'a>> {
    let options = SessionOptions::with_batch(BATCH);
    let (mut training, parameters) = TrainingSession::load(engine, &model("train.onnx"), options)?;
    // Parameters stay as they are, so that no round has other numbers than the one before.
    training.set_learning_rate(0.0);
    let inference =
        InferenceSession::load(engine, &model("infer.onnx"), options, Some(&parameters))?;
    Ok(Models {
        inference: vec![inference],
        bulk: Vec::new(),
        training: Some(training),
        parameters: Some(parameters),
        steps: 0,
        keeping: None,
        served: None,
        validation: None,
        keeping_served: None,
        batches: Batches::new(Records::open(data)?, 1),
        held_out: HeldOut::all(Records::open(data)?),
        correct,
    })
}

/// One problem, with the plan and the demand that it is run for.
struct Case {
    problem: Problem,
    plan: PlanTable,
    demand: Demand,
}

impl Case {
    /// Does [`WARM`] and [`MINIBATCHES`] in the loop; how long the latter took, and how much of
    /// it the models did not take. The order of all is kept.
    fn run(
        &self,
        models: &mut Models<'_>,
        order: &mut Vec<Minibatch>,
        seed: u64,
    ) -> Result<(u64, u64)> {
        order.clear();
        let solution = select(&self.plan, self.problem, &self.demand)
            .ok_or("this machine is too slow for the requests")?;
        let duty = Duty {
            problem: self.problem,
            bulk: false,
            budget_us: self.demand.latency_us,
            policy: Policy::default(),
        };
        let assignment = duty.assignment(&self.plan, &solution);
        let cancel = models.training.as_ref().map(TrainingSession::cancel_handle);
        let (mut ring, mut events) = (Ring::new(), Events::default());
        let ((mut sender, receiver), (say, _listen)) = (ring.split(), events.split());
        let (counts, places) = (receiver.counts(), models.held_out.count());
        let readings = Readings::new(solution.row);
        let (telemetry, watchdog, done) = (
            Telemetry::default(),
            Watchdog::default(),
            AtomicBool::new(false),
        );
        let clock = Monotonic(Instant::now());
        let guard = Guard::new(self.problem, self.demand, solution, clock.now_ns());
        let mut control = Control::new(guard, &self.plan, Fixed, &readings, say, duty);
        let serving = assignment.serving.is_some();
        let arrivals = serving
            .then(|| Arrivals::new(Process::Poisson, self.demand.rate, seed, clock.now_ns()));
        let mut arrivals = arrivals.flatten().into_iter().flatten().peekable();
        let rate = self.demand.rate;
        thread::scope(|scope| {
            if let Some(cancel) = cancel.filter(|_| serving) {
                let (watchdog, clock, done) = (&watchdog, &clock, &done);
                scope.spawn(move || {
                    watchdog.run(|| clock.now_ns(), counts, || cancel.cancel(), done);
                });
            }
            let work = Recorder {
                models,
                order,
                inside_ns: 0,
            };
            let mut looping = Loop::new(&clock, work, receiver, &telemetry, assignment, rate)
                .with_modes(&mut control)
                .with_watchdog(&watchdog);
            let result = (|| {
                let mut began_ns = 0;
                while looping.work().order.len() < WARM + MINIBATCHES {
                    let now_ns = clock.now_ns();
                    if looping.work().order.len() <= WARM {
                        began_ns = now_ns;
                    }
                    while let Some(arrival_ns) = arrivals.next_if(|at_ns| *at_ns <= now_ns) {
                        let place = u32::try_from(arrival_ns % u64::from(places))?;
                        let _ = sender.send(Request {
                            id: arrival_ns,
                            arrival_ns,
                            place,
                        });
                    }
                    if let Turn::TrainingStopped(error) = looping.turn()? {
                        return Err(error.into());
                    }
                }
                let took_ns = clock.now_ns() - began_ns;
                Ok((took_ns, took_ns - looping.work().inside_ns))
            })();
            done.store(true, Ordering::Relaxed);
            result
        })
    }
}

/// The same minibatches without the loop.
fn call(models: &mut Models<'_>, order: &[Minibatch], random: &mut Random) -> Result<u64> {
    let places = models.held_out.count().into();
    let mut requests = [Request::default(); BATCH as usize];
    let mut began = Instant::now();
    for (at, minibatch) in order.iter().enumerate() {
        if at == WARM {
            began = Instant::now();
        }
        match minibatch {
            Minibatch::Infer => {
                for request in &mut requests {
                    request.place = u32::try_from(random.below(places))?;
                }
                models.infer(&requests).map(drop)?;
            }
            Minibatch::Train => models.train().map(drop)?,
        }
    }
    Ok(u64::try_from(began.elapsed().as_nanos())?)
}

/// The sessions that are called barely.
struct BareModels {
    infer: Bare,
    train: Bare,
    records: Records,
    /// Of the next sample.
    index: u32,
}

impl BareModels {
    /// The same minibatches, bare.
    fn run(&mut self, order: &[Minibatch]) -> Result<u64> {
        let mut began = Instant::now();
        for (at, minibatch) in order.iter().enumerate() {
            if at == WARM {
                began = Instant::now();
            }
            let session = match minibatch {
                Minibatch::Infer => &mut self.infer,
                Minibatch::Train => &mut self.train,
            };
            let samples = session.samples_mut();
            for sample in samples.chunks_exact_mut(self.records.elements()) {
                self.records.copy_sample(self.index, sample);
                self.index = (self.index + 1) % self.records.count();
            }
            session.run();
        }
        Ok(u64::try_from(began.elapsed().as_nanos())?)
    }
}

/// What one costs more than another, in per cent: of the rounds in all, and of each placement.
struct Overhead {
    name: &'static str,
    placements: Vec<Vec<f64>>,
}

impl Overhead {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            placements: Vec::new(),
        }
    }

    fn add(&mut self, one_ns: u64, other_ns: u64) {
        if let Some(rounds) = self.placements.last_mut() {
            rounds.push((one_ns as f64 / other_ns as f64 - 1.0) * 100.0);
        }
    }

    fn print(&self) {
        let mut all = self.placements.concat();
        let mut medians: Vec<f64> = self
            .placements
            .iter()
            .map(|rounds| quantile(&mut rounds.clone(), 0.5))
            .collect();
        println!(
            "  {:15}  {:+.2} % (quartiles {:+.2} to {:+.2} %; medians of {PLACEMENTS} placements {:+.2} to {:+.2} %)",
            self.name,
            quantile(&mut all, 0.5),
            quantile(&mut all, 0.25),
            quantile(&mut all, 0.75),
            quantile(&mut medians, 0.0),
            quantile(&mut medians, 1.0),
        );
    }
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(q * (values.len() - 1) as f64) as usize]
}

fn compare(engine: &Engine, data: &Path, problem: Problem) -> Result<()> {
    let correct = Counter::default();
    let mut random = Random::new(1);
    let mut order = Vec::with_capacity(2 * MINIBATCHES);
    let mut overheads = ["loop over bare", "loop over calls", "calls over bare"].map(Overhead::new);
    let (mut own, mut owns_ns) = (Overhead::new("loop's own time"), Vec::new());
    let mut steps = 0;
    for placement in 0..PLACEMENTS {
        let mut models = load(engine, data, &correct)?;
        let parameters = models.parameters.as_ref().ok_or("no parameters")?;
        let mut bare = BareModels {
            infer: Bare::load(engine, "infer.onnx", parameters)?,
            train: Bare::load(engine, "train.onnx", parameters)?,
            records: Records::open(data)?,
            index: 0,
        };
        let infer_ns = bare.run(&[Minibatch::Infer; WARM + 100])? / 100;
        let train_ns = bare.run(&[Minibatch::Train; WARM + 100])? / 100;
        let window_ns = WINDOW * infer_ns;
        let case = Case {
            problem,
            plan: plan(infer_ns, train_ns)?,
            demand: Demand {
                power_mw: MilliWatt(30_000),
                latency_us: MicroSec(u32::try_from((2 * window_ns + 8 * train_ns) / 1_000)?),
                rate: MilliRps(u32::try_from(
                    u64::from(BATCH) * 1_000_000_000_000 / window_ns,
                )?),
            },
        };
        if placement == 0 {
            println!(
                "{problem:?}: step {} us, inference {} us",
                train_ns / 1_000,
                infer_ns / 1_000
            );
        }
        for overhead in overheads.iter_mut().chain([&mut own]) {
            overhead.placements.push(Vec::new());
        }
        for round in 0..ROUNDS {
            let (loop_ns, own_ns) = case.run(&mut models, &mut order, round as u64)?;
            steps += order[WARM..]
                .iter()
                .filter(|minibatch| matches!(minibatch, Minibatch::Train))
                .count();
            // Each is next to the loop as often as the other.
            let (calls_ns, bare_ns) = if round % 2 == 0 {
                let calls_ns = call(&mut models, &order, &mut random)?;
                (calls_ns, bare.run(&order)?)
            } else {
                let bare_ns = bare.run(&order)?;
                (call(&mut models, &order, &mut random)?, bare_ns)
            };
            own.add(loop_ns, loop_ns - own_ns);
            owns_ns.push(own_ns as f64 / MINIBATCHES as f64);
            let [over_bare, over_calls, calls_over_bare] = &mut overheads;
            over_bare.add(loop_ns, bare_ns);
            over_calls.add(loop_ns, calls_ns);
            calls_over_bare.add(calls_ns, bare_ns);
        }
    }
    println!(
        "  {steps} steps of {} minibatches, in {} rounds",
        PLACEMENTS * ROUNDS * MINIBATCHES,
        PLACEMENTS * ROUNDS
    );
    for overhead in [&own].into_iter().chain(&overheads) {
        overhead.print();
    }
    println!(
        "  the loop's own time per minibatch: median {:.0} ns",
        quantile(&mut owns_ns, 0.5)
    );
    Ok(())
}

fn main() -> Result<()> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    let data = cache
        .unwrap_or_else(home)
        .join("fulcrum/digits-1/train.rec");
    if !data.is_file() {
        println!(
            "overhead: {} is missing (`fulcrum demo` makes it); nothing was measured",
            data.display()
        );
        return Ok(());
    }
    let library = library::find(None)?;
    println!("{library}");
    let engine = Engine::start(&library)?;
    compare(&engine, &data, Problem::Training)?;
    compare(&engine, &data, Problem::TrainingInference(0))
}
