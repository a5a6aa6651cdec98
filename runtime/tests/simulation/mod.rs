//! A virtual board: the runtime's own loop over a clock that only work and waiting move.
//!
//! One thread, one seed, no wall clock: the same seed replays the same hour on every machine.

use fulcrum_plan::units::MilliRps;
use fulcrum_runtime::arrivals::Arrivals;
use fulcrum_runtime::queue::{Request, Ring};
use fulcrum_runtime::random::Random;
use fulcrum_runtime::schedule::Assignment;
use fulcrum_runtime::serve::{Clock, GivenUp, Loop, Turn, Work, WorkError};
use fulcrum_runtime::telemetry::Telemetry;
use std::cell::Cell;

pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// What goes wrong with durations.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Disturbance {
    /// Standard deviation of every duration, as a share of it.
    pub(crate) noise: f64,
    /// One in so many minibatches takes `spike` times as long; 0 for never.
    pub(crate) spike_every: u64,
    pub(crate) spike: f64,
    /// From half of the run on, everything takes this many times as long; 0 for no change.
    pub(crate) slower: f64,
    /// One in so many minibatches fails; 0 for never.
    pub(crate) fail_every: u64,
    /// Everything takes this many times as long, because something else has the device, too; 0 for alone.
    pub(crate) shared: f64,
}

/// What shared hardware does to a minibatch: 3 % of noise, one in a thousand twice as long.
pub(crate) const USUAL: Disturbance = Disturbance {
    noise: 0.03,
    spike_every: 1000,
    spike: 2.0,
    slower: 0.0,
    fail_every: 0,
    shared: 0.0,
};

struct Virtual(Cell<u64>);

impl Clock for Virtual {
    fn now_ns(&self) -> u64 {
        self.0.get()
    }
}

struct Board<'a> {
    clock: &'a Virtual,
    random: Random,
    disturbance: Disturbance,
    half_ns: u64,
    infer_ns: f64,
    train_ns: f64,
    minibatches: u64,
}

impl Board<'_> {
    fn spend(&mut self, planned_ns: f64) -> Result<(), WorkError> {
        let Disturbance {
            noise,
            spike_every,
            spike,
            slower,
            fail_every,
            shared,
        } = self.disturbance;
        self.minibatches += 1;
        // Three uniform numbers make a bell that no machine computes differently.
        let bell = (0..3).map(|_| self.random.unit() - 0.5).sum::<f64>() * 2.0;
        let mut took_ns = planned_ns * (1.0 + noise * bell);
        if spike_every > 0 && self.random.below(spike_every) == 0 {
            took_ns *= spike;
        }
        if shared > 0.0 {
            took_ns *= shared;
        }
        if slower > 0.0 && self.clock.now_ns() > self.half_ns {
            took_ns *= slower;
        }
        self.clock
            .0
            .set(self.clock.now_ns() + took_ns.max(1.0) as u64);
        if fail_every > 0 && self.random.below(fail_every) == 0 {
            return Err(WorkError::Failed { code: 7 });
        }
        Ok(())
    }
}

impl Work for Board<'_> {
    fn infer(&mut self, _: &[Request]) -> Result<usize, WorkError> {
        // Static shapes: a batch that is not full takes as long as a full one.
        self.spend(self.infer_ns).map(|()| usize::from(u16::MAX))
    }

    fn train(&mut self) -> Result<f32, WorkError> {
        self.spend(self.train_ns).map(|()| 1.0)
    }

    fn give_up(&mut self, _: &Request, _: GivenUp) {}
}

/// How a simulated run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) arrived: u64,
    pub(crate) served: u64,
    /// Late, rejected, dropped or failed.
    pub(crate) missed: u64,
    /// Answered, but late.
    pub(crate) late: u64,
    pub(crate) batches: u64,
    pub(crate) steps: u64,
    pub(crate) latency_p99_ns: u64,
    pub(crate) latency_max_ns: u64,
    /// Time of all batches.
    pub(crate) infer_ns: u64,
}

impl Outcome {
    pub(crate) fn missed_ppm(&self) -> u64 {
        self.missed * 1_000_000 / self.arrived.max(1)
    }
}

/// Runs the loop for some time of board time.
pub(crate) fn run(
    assignment: Assignment,
    (arrivals, rate): (Arrivals, MilliRps),
    disturbance: Disturbance,
    (seed, duration_ns): (u64, u64),
) -> Outcome {
    let (clock, telemetry, mut ring) = (Virtual(Cell::new(0)), Telemetry::default(), Ring::new());
    let (mut sender, receiver) = ring.split();
    let counts = receiver.counts();
    let board = Board {
        clock: &clock,
        random: Random::new(seed ^ 0xb0a4d),
        disturbance,
        half_ns: duration_ns / 2,
        infer_ns: assignment
            .serving
            .map_or(0.0, |serving| serving.infer_ns as f64),
        train_ns: assignment.train_ns.map_or(0.0, |train_ns| train_ns as f64),
        minibatches: 0,
    };
    let mut looping = Loop::new(&clock, board, receiver, &telemetry, assignment, rate);
    let mut arrivals = arrivals.enumerate().peekable();
    while clock.now_ns() < duration_ns {
        while let Some((id, arrival_ns)) = arrivals.next_if(|(_, at_ns)| *at_ns <= clock.now_ns()) {
            let _ = sender.send(Request {
                id: id as u64,
                arrival_ns,
                place: 0,
            });
        }
        match looping.turn() {
            Ok(Turn::Wait { until_ns }) => {
                let next_ns = arrivals.peek().map_or(u64::MAX, |(_, at_ns)| *at_ns);
                let until_ns = until_ns.unwrap_or(u64::MAX).min(next_ns);
                clock.0.set(until_ns.max(clock.now_ns() + 1));
            }
            Ok(_) => {}
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    let waiting = looping.requests().pending() as u64;
    let lost = counts.rejected() + telemetry.dropped.get() + telemetry.failed.get();
    assert_eq!(
        telemetry.served.get() + lost + waiting,
        counts.arrived(),
        "seed {seed}: a request is not accounted for"
    );
    Outcome {
        arrived: counts.arrived(),
        served: telemetry.served.get(),
        missed: telemetry.late.get() + lost,
        late: telemetry.late.get(),
        batches: telemetry.batches.get(),
        steps: telemetry.steps.get(),
        latency_p99_ns: telemetry.latency.quantile_ns(990_000),
        latency_max_ns: telemetry.latency.max_ns(),
        infer_ns: telemetry.infer.sum_ns(),
    }
}
