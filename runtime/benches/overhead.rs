//! What the loop costs beside bare calls into ONNX Runtime: the digits model, whose training step takes 300 to
//! 600 µs, the same minibatches in the same order, in turn on one thread.
//!
//! ```text
//! cargo bench -p fulcrum-runtime --bench overhead
//! ```
//!
//! - **loop**: what `fulcrumd run` does: queue, schedule, guard, telemetry, watchdog and its thread, the next samples, the
//!   engine; not the threads that bring requests, watch the board and report;
//! - **calls**: each minibatch with its next samples, without the loop;
//! - **bare**: ONNX Runtime's C call (`RunWithBinding`), one after the other, each after a plain copy of its samples and
//!   labels from the same file in memory, whose places there are known before the clock starts;
//! - **gathered**: the same from copies that were made one behind the other just before.
//!
//! All run the very same sessions over the same tensors, the same minibatches one after the other, each with the next
//! samples of the same random order: over samples that it saw lately a processor predicts the branches of the operators,
//! which makes a step quicker, over the very same ones again and again by a tenth.
//! Sessions are loaded several times, because their pace is another one each time.
//! Needs an ONNX Runtime library (`fulcrum engine install`) and the digits that `fulcrum demo` leaves in its cache.

mod bare;
mod comparison;

use bare::{BATCH, model};
use comparison::{Overhead, quantile};
use fulcrum_plan::PowerMode;
use fulcrum_plan::problem::Demand;
use fulcrum_plan::select::{Problem, select};
use fulcrum_plan::table::{Cell, PlanTable, Provenance, Row, Workload};
use fulcrum_plan::units::{Khz, MicroSec, MilliRps, MilliWatt};
use fulcrum_runtime::arrivals::{Arrivals, Process};
use fulcrum_runtime::control::{Control, Duty, Events, Readings, SetMode};
use fulcrum_runtime::data::order::Order;
use fulcrum_runtime::data::{Batches, HeldOut, Records};
use fulcrum_runtime::engine::{
    Engine, InferenceSession, SessionOptions, Targets, TrainingSession, library,
};
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
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How often the sessions are loaded.
const PLACEMENTS: usize = 6;
/// Rounds of all in turn, per placement.
const ROUNDS: usize = 180;
/// Minibatches before each round that do not count: caches are cold, and pages new.
const WARM: usize = 10;
/// Minibatches per round.
const MINIBATCHES: usize = 20;
/// In one round of so many the loop's own time is taken, and nothing else: with clocks that only the bench reads.
const OWN_EVERY: usize = 4;
/// Requests of a round, at most.
const REQUESTS: usize = (WARM + MINIBATCHES) * BATCH as usize;
/// A batch of requests arrives in as many times of an inference minibatch.
const WINDOW: u64 = 4;
/// Latency budget: a short one for a robot. By it goes how often the watchdog looks.
const BUDGET: MicroSec = MicroSec(50_000);
/// The watchdog looks about this often, and first in a round after a part of it that is chance: as often as in a loop
/// that goes on.
const LOOK_EVERY: Duration = Duration::from_millis(42);

struct Monotonic(Instant);

impl Clock for Monotonic {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[derive(Clone, Copy)]
enum Minibatch {
    /// So many requests, the next ones.
    Infer(usize),
    Train,
}

/// What a round does.
#[derive(Default)]
struct Record {
    minibatches: Vec<Minibatch>,
    requests: Vec<Request>,
}

impl Record {
    /// Other samples for all requests.
    fn move_on(&mut self, places: u32) {
        for request in &mut self.requests {
            request.place = (request.place + 1) % places;
        }
    }

    /// Each minibatch with its requests.
    fn iter(&self) -> impl Iterator<Item = (Minibatch, &[Request])> {
        let mut requests = &self.requests[..];
        self.minibatches.iter().map(move |minibatch| {
            let count = match minibatch {
                Minibatch::Infer(count) => *count,
                Minibatch::Train => 0,
            };
            let (these, rest) = requests.split_at(count);
            requests = rest;
            (*minibatch, these)
        })
    }
}

/// Models that remember what they were asked for, and in rounds that are for that, how long it took.
struct Recorder<'a, 'b> {
    models: &'a mut Models<'b>,
    minibatches: &'a mut Vec<Minibatch>,
    times: bool,
    inside_ns: u64,
}

impl<'b> Recorder<'_, 'b> {
    fn timed<T>(&mut self, minibatch: Minibatch, run: impl FnOnce(&mut Models<'b>) -> T) -> T {
        self.minibatches.push(minibatch);
        if !self.times {
            return run(self.models);
        }
        let began = Instant::now();
        let result = run(self.models);
        if self.minibatches.len() > WARM {
            self.inside_ns += began.elapsed().as_nanos() as u64;
        }
        result
    }
}

impl Work for Recorder<'_, '_> {
    fn infer(&mut self, requests: &[Request]) -> std::result::Result<usize, WorkError> {
        self.timed(Minibatch::Infer(requests.len()), |models| {
            models.infer(requests)
        })
    }

    fn train(&mut self) -> std::result::Result<f32, WorkError> {
        self.timed(Minibatch::Train, Models::train)
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
        training: Some(training),
        parameters: Some(parameters),
        ..Models::new(
            Batches::new(Records::open(data)?, 1),
            HeldOut::all(Records::open(data)?),
            correct,
        )
    })
}

/// One problem, with the plan and the demand that it is run for.
struct Case {
    problem: Problem,
    plan: PlanTable,
    demand: Demand,
}

impl Case {
    /// Does [`WARM`] and [`MINIBATCHES`] in the loop, which records them, and then without it. What the loop needs
    /// stays where it is all the time: with other things on stack and heap the very same call has another pace.
    fn run(&self, models: &mut Models<'_>, record: &mut Record, round: usize) -> Result<Times> {
        record.minibatches.clear();
        record.requests.clear();
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
        let (counts, places) = (receiver.counts(), u64::from(models.held_out.count()));
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
        let arrivals = serving.then(|| {
            Arrivals::new(
                Process::Poisson,
                self.demand.rate,
                round as u64,
                clock.now_ns(),
            )
        });
        let mut requests = arrivals
            .flatten()
            .into_iter()
            .flatten()
            .take(REQUESTS)
            .map(|arrival_ns| Request {
                id: arrival_ns,
                arrival_ns,
                place: (arrival_ns % places) as u32,
            })
            .collect::<Vec<_>>()
            .into_iter()
            .peekable();
        let rate = self.demand.rate;
        thread::scope(|scope| {
            let watching = cancel.filter(|_| serving).map(|cancel| {
                let (watchdog, clock, done) = (&watchdog, &clock, &done);
                let looks_from = LOOK_EVERY.mul_f64(Random::new(round as u64).unit());
                scope.spawn(move || {
                    thread::park_timeout(looks_from);
                    watchdog.run(|| clock.now_ns(), counts, || cancel.cancel(), done);
                })
            });
            let work = Recorder {
                models: &mut *models,
                minibatches: &mut record.minibatches,
                times: round.is_multiple_of(OWN_EVERY),
                inside_ns: 0,
            };
            let mut looping = Loop::new(&clock, work, receiver, &telemetry, assignment, rate)
                .with_modes(&mut control)
                .with_watchdog(&watchdog);
            let result = (|| -> Result<_> {
                let (mut began_ns, mut sending_ns) = (0, 0);
                while looping.work().minibatches.len() < WARM + MINIBATCHES {
                    let now_ns = clock.now_ns();
                    if looping.work().minibatches.len() <= WARM {
                        (began_ns, sending_ns) = (now_ns, 0);
                    }
                    // In `fulcrumd` another thread sends; here it counts for nobody.
                    while let Some(request) = requests.next_if(|next| next.arrival_ns <= now_ns) {
                        // The loop answers those that are admitted in this order.
                        if sender.send(request).is_ok() {
                            record.requests.push(request);
                        }
                    }
                    sending_ns += clock.now_ns() - now_ns;
                    if let Turn::TrainingStopped(error) = looping.turn()? {
                        return Err(error.into());
                    }
                }
                let took_ns = clock.now_ns() - began_ns - sending_ns;
                let work = looping.work();
                Ok((took_ns, work.times.then(|| took_ns - work.inside_ns)))
            })();
            done.store(true, Ordering::Relaxed);
            if let Some(watching) = watching {
                watching.thread().unpark();
            }
            drop(looping);
            let (loop_ns, own_ns) = result?;
            let mut times = Times {
                loop_ns,
                own_ns,
                ..Times::default()
            };
            let places = models.held_out.count();
            let [fed, fed_gathered] = [false, true].map(|gathered| {
                record.move_on(places);
                feed(models, record, gathered)
            });
            record.move_on(places);
            // Each is next to the loop as often as the others.
            for turn in 0..3 {
                match (round + turn) % 3 {
                    0 => times.calls_ns = call(models, record)?,
                    1 => times.bare_ns = run_bare(models, &fed)?,
                    _ => times.gathered_ns = run_bare(models, &fed_gathered)?,
                }
            }
            Ok(times)
        })
    }
}

/// How long [`MINIBATCHES`] took.
#[derive(Default)]
struct Times {
    loop_ns: u64,
    /// Of it, what the models did not take, in a round that is for that.
    own_ns: Option<u64>,
    calls_ns: u64,
    bare_ns: u64,
    gathered_ns: u64,
}

/// The same minibatches without the loop.
fn call(models: &mut Models<'_>, record: &Record) -> Result<u64> {
    let mut began = Instant::now();
    for (at, (minibatch, requests)) in record.iter().enumerate() {
        if at == WARM {
            began = Instant::now();
        }
        match minibatch {
            Minibatch::Infer(_) => models.infer(requests).map(drop)?,
            Minibatch::Train => models.train().map(drop)?,
        }
    }
    Ok(u64::try_from(began.elapsed().as_nanos())?)
}

/// A minibatch, where its samples are in the file, and copies of them where it is fed with those.
struct Fed {
    minibatch: Minibatch,
    indices: Vec<u32>,
    samples: Vec<f32>,
    labels: Vec<i64>,
}

/// What the models would take for a round, and do not take any more.
fn feed(models: &mut Models<'_>, record: &Record, gathered: bool) -> Vec<Fed> {
    let (held_out, records) = (&models.held_out, models.batches.records());
    let mut order = Order::at(models.batches.count(), models.batches.place());
    let feed = |(minibatch, requests): (Minibatch, &[Request])| {
        let mut fed = Fed {
            minibatch,
            indices: vec![0; BATCH as usize],
            samples: Vec::new(),
            labels: Vec::new(),
        };
        match minibatch {
            Minibatch::Infer(_) => {
                fed.indices = requests.iter().map(|r| held_out.index(r.place)).collect();
            }
            Minibatch::Train => order.next_indices(&mut fed.indices),
        }
        if gathered {
            fed.samples = vec![0.0; fed.indices.len() * records.elements()];
            copy(records, &fed.indices, &mut fed.samples);
            fed.labels = fed.indices.iter().map(|i| records.label(*i)).collect();
        }
        fed
    };
    let fed = record.iter().map(feed).collect();
    models.batches.resume(order.place());
    fed
}

fn copy(records: &Records, indices: &[u32], x: &mut [f32]) {
    for (row, index) in x.chunks_exact_mut(records.elements()).zip(indices) {
        records.copy_sample(*index, row);
    }
}

/// The same minibatches, bare.
fn run_bare(models: &mut Models<'_>, fed: &[Fed]) -> Result<u64> {
    let training = models.training.as_mut().ok_or("no training")?;
    let inference = models.inference.last_mut().ok_or("no inference")?;
    for call in training.calls() {
        // Where the watchdog cancelled the loop's last step.
        call.options.unterminate()?;
    }
    // A step reads what the one before wrote.
    let mut side = 0;
    let mut began = Instant::now();
    for (at, fed) in fed.iter().enumerate() {
        if at == WARM {
            began = Instant::now();
        }
        match (fed.minibatch, !fed.samples.is_empty()) {
            (Minibatch::Infer(_), true) => {
                inference.x_mut()[..fed.samples.len()].copy_from_slice(&fed.samples);
            }
            (Minibatch::Infer(_), false) => {
                copy(models.held_out.records(), &fed.indices, inference.x_mut());
            }
            (Minibatch::Train, true) => {
                let (x, y) = training.x_and_y_mut();
                x.copy_from_slice(&fed.samples);
                if let Targets::Classes(y) = y {
                    y.copy_from_slice(&fed.labels);
                }
            }
            (Minibatch::Train, false) => {
                let (x, y) = training.x_and_y_mut();
                let records = models.batches.records();
                copy(records, &fed.indices, x);
                if let Targets::Classes(y) = y {
                    for (y, index) in y.iter_mut().zip(&fed.indices) {
                        *y = records.label(*index);
                    }
                }
            }
        }
        if let Minibatch::Infer(_) = fed.minibatch {
            bare::run(inference.calls().nth(side));
        } else {
            bare::run(training.calls().nth(side));
            side = 1 - side;
        }
    }
    Ok(u64::try_from(began.elapsed().as_nanos())?)
}

/// How long a minibatch takes.
fn pace(models: &mut Models<'_>, minibatch: Minibatch) -> Result<u64> {
    const RUNS: usize = 100;
    let record = Record {
        minibatches: vec![minibatch; WARM + RUNS],
        requests: (0..BATCH * (WARM + RUNS) as u32)
            .map(|place| Request {
                place,
                ..Request::default()
            })
            .collect(),
    };
    Ok(call(models, &record)? / RUNS as u64)
}

fn compare(engine: &Engine, data: &Path, problem: Problem) -> Result<()> {
    let correct = Counter::default();
    let mut record = Record::default();
    let mut overheads = [
        "loop over bare",
        "loop over gathered",
        "loop over calls",
        "calls over bare",
    ]
    .map(Overhead::new);
    let (mut own, mut owns_ns) = (Overhead::new("loop's own time"), Vec::new());
    let mut steps = 0;
    for placement in 0..PLACEMENTS {
        let mut models = load(engine, data, &correct)?;
        let infer_ns = pace(&mut models, Minibatch::Infer(BATCH as usize))?;
        let train_ns = pace(&mut models, Minibatch::Train)?;
        let window_ns = WINDOW * infer_ns;
        let case = Case {
            problem,
            plan: plan(infer_ns, train_ns)?,
            demand: Demand {
                power_mw: MilliWatt(30_000),
                latency_us: BUDGET,
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
            let times = case.run(&mut models, &mut record, round)?;
            steps += record.minibatches[WARM..]
                .iter()
                .filter(|minibatch| matches!(minibatch, Minibatch::Train))
                .count();
            if let Some(own_ns) = times.own_ns {
                own.add(times.loop_ns, times.loop_ns - own_ns);
                owns_ns.push(own_ns as f64 / MINIBATCHES as f64);
                continue;
            }
            let pairs = [
                (times.loop_ns, times.bare_ns),
                (times.loop_ns, times.gathered_ns),
                (times.loop_ns, times.calls_ns),
                (times.calls_ns, times.bare_ns),
            ];
            for (overhead, (one_ns, other_ns)) in overheads.iter_mut().zip(pairs) {
                overhead.add(one_ns, other_ns);
            }
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
