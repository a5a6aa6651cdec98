//! The threads of a run: the loop on this one, beside it those that bring requests, watch,
//! report, and tell.

use super::choice::demand;
use super::job::Job;
use super::outcome::Outcome;
use super::pages::Pages;
use super::reporter::report_until;
use super::watcher::{Setter, Watcher, watch};
use fulcrum_runtime::allocation;
use fulcrum_runtime::arrivals::Arrivals;
use fulcrum_runtime::board::Jetson;
use fulcrum_runtime::checkpoint::Keeping;
use fulcrum_runtime::control::{Control, Duty, Events, Readings};
use fulcrum_runtime::engine::TrainingSession;
use fulcrum_runtime::exchange::{Exchange, LoopSide};
use fulcrum_runtime::feeder;
use fulcrum_runtime::guard::Guard;
use fulcrum_runtime::models::{Models, ServedModels};
use fulcrum_runtime::notify::Notifier;
use fulcrum_runtime::queue::{Ring, Sender};
use fulcrum_runtime::realtime::{self, Rest};
use fulcrum_runtime::serve::{Clock, Loop, Turn, Work};
use fulcrum_runtime::socket::{Bound, Server};
use fulcrum_runtime::status::http::Listener;
use fulcrum_runtime::watchdog::Watchdog;
use nix::sys::resource::{UsageWho, getrusage};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Longest wait of the loop: how long a signal may go unnoticed.
pub(crate) const WAIT_MAX: Duration = Duration::from_millis(50);

/// The process's monotonic clock, zero at its creation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Monotonic(Instant);

impl Monotonic {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Monotonic {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Where other processes come in.
#[derive(Debug)]
pub(crate) struct Doors {
    pub(crate) requests: Option<Bound>,
    /// Those that are not urgent.
    pub(crate) requests_bulk: Option<Bound>,
    pub(crate) status: Option<Listener>,
}

/// Hands out pages until `done`.
pub(crate) fn hand_out(listener: &Listener, mut pages: Pages<'_>, done: &AtomicBool) {
    if let Err(error) = listener.serve(done, |path| pages.page(path)) {
        log::warn!("--status: {error}; nobody is told how the run goes");
    }
}

/// Where requests come from.
enum Source<'a> {
    /// Other processes.
    Clients(Server<'a, Monotonic>),
    /// The feeder: held-out samples, as they would arrive.
    Samples(Sender<'a>),
}

/// Where requests come from, and the way back to clients.
fn source<'a>(
    clock: &'a Monotonic,
    listener: Option<Bound>,
    exchange: Option<&'a mut Exchange>,
    sender: Sender<'a>,
    to: &'a Thread,
) -> io::Result<(Source<'a>, Option<LoopSide<'a>>)> {
    let Some((listener, exchange)) = listener.zip(exchange) else {
        return Ok((Source::Samples(sender), None));
    };
    let (wake, awake) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    let (server, clients) = exchange.split(wake);
    let server = Server::new(clock, listener, awake, server, sender, to)?;
    Ok((Source::Clients(server), Some(clients)))
}

/// Runs the loop, and hands the models back.
///
/// # Errors
/// The request socket cannot be used.
pub(crate) fn work<'a>(
    job: &Job<'_>,
    doors: Doors,
    board: &mut Jetson,
    mut models: Models<'a>,
    notifier: &mut Notifier,
) -> io::Result<(Outcome, Models<'a>)> {
    // The kernel rounds wake-ups of ordinary threads to 50 µs otherwise (prctl(2)); refused, they are.
    let _ = nix::sys::prctl::set_timerslack(1);
    let clock = Monotonic::start();
    let (done, loop_thread) = (AtomicBool::new(false), thread::current());
    let mut ring = Ring::new();
    let (sender, receiver) = ring.split();
    let counts = receiver.counts();
    let mut bulk_ring = Ring::new();
    let (bulk_sender, bulk_receiver) = bulk_ring.split();
    let watchdog = Watchdog::default();
    let places = models.held_out.count();
    let cancel = models.training.as_ref().map(TrainingSession::cancel_handle);
    let mut exchange = doors.requests.as_ref().map(|_| models.exchange());
    let bulk_listens = doors.requests_bulk.as_ref();
    let mut exchange_bulk = bulk_listens.map(|_| models.exchange_bulk());
    let keeper = models.keeping.as_ref().map(Keeping::keeper);
    let keeper_served = models.keeping_served.as_ref().map(Keeping::keeper);
    let open = |listener, exchange: Option<_>, sender| {
        source(&clock, listener, exchange, sender, &loop_thread)
    };
    let (urgent, clients) = open(doors.requests, exchange.as_mut(), sender)?;
    let (bulk, clients_bulk) = open(doors.requests_bulk, exchange_bulk.as_mut(), bulk_sender)?;
    let bulk_counts = bulk_receiver.counts();
    let work = ServedModels {
        models: &mut models,
        clients,
        clients_bulk,
    };
    let demand = demand(job.options);
    let duty = Duty {
        problem: job.problem,
        bulk: job.bulk,
        budget_us: demand.latency_us,
        policy: job.options.policy,
    };
    let assignment = duty.assignment(job.plan, &job.solution);
    let readings = Readings::new(job.solution.row);
    let mut events = Events::default();
    let (say, mut listen) = events.split();
    let share_per_mille = job.options.policy.train_share_per_mille;
    let guard =
        Guard::new(job.problem, demand, job.solution, clock.now_ns()).promising(share_per_mille);
    let telemetry = job.telemetry;
    let setter = Setter {
        board,
        pin: job.pin,
        unpinned: &telemetry.unpinned,
    };
    let mut control = Control::new(guard, job.plan, setter, &readings, say, duty);
    let mut looping = Loop::new(&clock, work, receiver, telemetry, assignment, demand.rate)
        .with_modes(&mut control)
        .with_bulk(bulk_receiver)
        .with_watchdog(&watchdog);
    let mut outcome = thread::scope(|scope| {
        let reporter = scope.spawn(|| report_until(job, counts, &mut listen, &done));
        if let Some(listener) = &doors.status {
            let bulk_counts = job.bulk.then_some(bulk_counts);
            let pages = Pages::new(job, Some(counts), bulk_counts, &readings);
            let done = &done;
            scope.spawn(move || hand_out(listener, pages, done));
        }
        let watcher = Watcher::new(job.over_current_before);
        let watcher = scope.spawn(|| {
            watch(
                watcher,
                &job.options.board,
                job.plan,
                &readings,
                &clock,
                &done,
            )
        });
        let keepers = [&keeper, &keeper_served].into_iter().flatten();
        let writers: Vec<_> = keepers
            .map(|keeper| scope.spawn(|| keeper.write_until(&done)))
            .collect();
        if assignment.serving.is_some() {
            scope.spawn(|| match urgent {
                Source::Clients(mut server) => server.run(&done),
                Source::Samples(sender) => {
                    let (process, seed) = (job.options.arrivals, job.options.seed);
                    let arrivals = Arrivals::new(process, demand.rate, seed, clock.now_ns());
                    if let Some(arrivals) = arrivals {
                        feeder::feed(&clock, sender, arrivals, places, seed, &loop_thread, &done);
                    }
                }
            });
        }
        if assignment.bulk.is_some() || job.bulk {
            scope.spawn(|| match bulk {
                Source::Clients(mut server) => server.run(&done),
                Source::Samples(sender) => feeder::refill(&clock, sender, places, &done),
            });
        }
        if let Some(cancel) = cancel.filter(|_| assignment.serving.is_some()) {
            let (watchdog, clock, done) = (&watchdog, &clock, &done);
            scope.spawn(move || watchdog.run(|| clock.now_ns(), counts, || cancel.cancel(), done));
        }
        let rest = take_place(job);
        let mut outcome = turn_until(&mut looping, &clock, job, notifier, rest);
        realtime::leave();
        done.store(true, Ordering::Relaxed);
        reporter.thread().unpark();
        watcher.thread().unpark();
        for writer in writers {
            writer.thread().unpark();
        }
        outcome.seen = watcher.join().unwrap_or_default();
        outcome
    });
    outcome.waiting = looping.requests().pending() as u64;
    (outcome.arrived, outcome.rejected) = (counts.arrived(), counts.rejected());
    outcome.bulk_waiting = looping.bulk_pending() as u64;
    (outcome.bulk_arrived, outcome.bulk_rejected) = (bulk_counts.arrived(), bulk_counts.rejected());
    outcome.checkpoints = keeper.map_or(0, |keeper| keeper.written.get());
    Ok((outcome, models))
}

/// Puts the loop's thread where it is to run. Threads that it starts would have the same core: so once all
/// are started. Returns how it has to rest.
fn take_place(job: &Job<'_>) -> Option<Rest> {
    if job.pin.is_some_and(|pin| pin.follow().is_err()) {
        job.telemetry.unpinned.add(1);
    }
    if !job.options.realtime {
        return None;
    }
    realtime::enter().unwrap_or_else(|refused| {
        log::warn!("--realtime: {refused}");
        None
    })
}

/// The loop itself: nothing in here allocates (invariant I5).
fn turn_until<W: Work>(
    looping: &mut Loop<'_, Monotonic, W>,
    clock: &Monotonic,
    job: &Job<'_>,
    notifier: &mut Notifier,
    mut rest: Option<Rest>,
) -> Outcome {
    // Waits for a request, and enters the time as rest.
    let wait = |time: Duration, rest: &mut Option<Rest>| {
        let before_ns = clock.now_ns();
        thread::park_timeout(time);
        if let Some(rest) = rest {
            rest.rested(clock.now_ns().saturating_sub(before_ns));
        }
    };
    let start_ns = clock.now_ns();
    let end_ns = job.options.duration.map_or(u64::MAX, |duration| {
        let duration_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        start_ns.saturating_add(duration_ns)
    });
    let mut failure = None;
    let faults_before = page_faults();
    let allocations_before = allocation::count();
    while !job.stop.load(Ordering::Relaxed) {
        let now_ns = clock.now_ns();
        if now_ns >= end_ns {
            break;
        }
        notifier.alive(now_ns);
        match looping.turn() {
            Ok(Turn::Worked) => {
                let took_ns = || clock.now_ns().saturating_sub(now_ns);
                if let Some(due_ns) = rest.as_mut().and_then(|rest| rest.worked(took_ns())) {
                    wait(Duration::from_nanos(due_ns), &mut rest);
                }
            }
            Ok(Turn::TrainingStopped(_)) => job.telemetry.training_stopped.add(1),
            Ok(Turn::BulkStopped(_)) => job.telemetry.bulk_stopped.add(1),
            Ok(Turn::Wait { until_ns }) => {
                let until_ns = until_ns.unwrap_or(u64::MAX).min(end_ns);
                let wait_for = Duration::from_nanos(until_ns.saturating_sub(clock.now_ns()));
                if !wait_for.is_zero() {
                    wait(wait_for.min(WAIT_MAX), &mut rest);
                }
            }
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let allocations = allocation::count().since(allocations_before);
    let faults = page_faults().zip(faults_before);
    Outcome {
        elapsed: Duration::from_nanos(clock.now_ns().saturating_sub(start_ns)),
        allocations,
        page_faults: faults.map(|(after, before)| after.saturating_sub(before)),
        failure,
        ..Outcome::default()
    }
}

/// Page faults of the calling thread so far, minor and major.
fn page_faults() -> Option<u64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).ok()?;
    u64::try_from(usage.minor_page_faults() + usage.major_page_faults()).ok()
}
