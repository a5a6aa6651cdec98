//! Workloads on a virtual board, in virtual time: what `fulcrumd profile` measures there repeats to the last
//! bit.

use super::sensors::load;
use super::{VirtualControls, VirtualJetson, lock};
use fulcrum_plan::PowerMode;
use fulcrum_plan::link::{self, Offer, Order};
use fulcrum_plan::table;
use fulcrum_plan::units::Khz;
use fulcrum_planner::boards;
use fulcrum_planner::profile::synthetic::Synthetic;
use fulcrum_planner::profile::{ProfileSource, Run, Truth};
use fulcrum_planner::random::Random;
use fulcrum_planner::workload::{Role, Workload};
use fulcrum_runtime::board::Jetson;
use fulcrum_runtime::board::effective::Running;
use fulcrum_runtime::profile::course::Minibatch;
use fulcrum_runtime::profile::measure::OnMinibatch;
use fulcrum_runtime::profile::rig::Work;
use fulcrum_runtime::profile::serve::Trouble;
use std::fs;
use std::time::Duration;

/// Between two samples of power, as on a board.
const SAMPLE_US: u64 = 100_000;
/// Relative standard deviation of a minibatch's time. Invented.
const TIME_SIGMA: f64 = 0.02;
/// The first minibatch pays for start-up. Invented.
const FIRST_TIMES: f64 = 8.0;

/// Runs the workloads of the synthetic model on a virtual board.
#[derive(Debug)]
pub struct VirtualWork<'a> {
    board: &'a VirtualJetson,
    model: Synthetic,
    /// How long a profile takes in real time, so that a test can cut in.
    delay: Duration,
}

impl<'a> VirtualWork<'a> {
    /// Work for a board that describes itself as `name`.
    ///
    /// # Panics
    /// There is no such board.
    #[must_use]
    pub fn new(board: &'a VirtualJetson, name: &str, delay: Duration) -> Self {
        let described = boards::named(name).expect("a known board");
        let work = Self {
            board,
            model: Synthetic::new(described, 0).without_noise(),
            delay,
        };
        work.advance_us(0);
        work
    }

    /// Lets time pass, and puts what the sensors then say where the board reads them.
    fn advance_us(&self, pause_us: u64) {
        lock(&self.board.kernel).advance_us(pause_us);
        for path in self.board.sensor_paths() {
            let text = lock(&self.board.kernel).read(&path).unwrap_or_default();
            fs::write(self.board.root().join(path), text).expect("a sensor's file");
        }
    }

    fn running(&self, board: &Jetson<VirtualControls>) -> Running {
        let mut kernel = lock(&self.board.kernel);
        let mut khz = |path: &str, per_khz: u64| {
            let path = self.board.root().join(path).canonicalize().ok()?;
            let root = self.board.root().canonicalize().ok()?;
            let value: u64 = kernel
                .read(path.strip_prefix(root).ok()?)
                .ok()?
                .trim()
                .parse()
                .ok()?;
            u32::try_from(value / per_khz).ok().map(Khz)
        };
        let clusters = board.topology().clusters.iter();
        let cpu = clusters.filter_map(|cluster| {
            let policy = cluster.policy;
            khz(
                &format!("sys/devices/system/cpu/cpufreq/policy{policy}/cpuinfo_cur_freq"),
                1,
            )
        });
        Running {
            cpu_khz: cpu.min(),
            gpu_khz: None,
            heat_limited: board.is_heat_limited() == Some(true),
        }
    }
}

/// The planner's name of what a board is asked for.
fn run(order: &Order, mode: PowerMode) -> Run {
    let role = match order.role {
        link::Role::Train => Role::Train,
        link::Role::Infer => Role::Infer,
    };
    Run {
        mode,
        ..load(role, &order.workload, order.batch)
    }
}

fn offer(workload: &Workload) -> Offer {
    Offer {
        role: match workload.role {
            Role::Train => link::Role::Train,
            Role::Infer => link::Role::Infer,
        },
        workload: table::Workload {
            name: workload.name.as_str().try_into().expect("a short name"),
            batches: workload.batches.iter().copied().collect(),
        },
    }
}

impl Work<VirtualControls> for VirtualWork<'_> {
    fn offers(&self) -> Vec<Offer> {
        self.model.workloads().iter().map(offer).collect()
    }

    fn load(&mut self, _order: &Order) -> Result<(), Trouble> {
        std::thread::sleep(self.delay);
        Ok(())
    }

    fn run(
        &mut self,
        board: &Jetson<VirtualControls>,
        order: &Order,
        on_minibatch: &mut OnMinibatch<'_>,
    ) -> Result<Running, Trouble> {
        let wanted = run(order, order.mode);
        let time_us = self
            .model
            .truth(&wanted)
            .map(|cell| f64::from(cell.time_us.0));
        let time_us = time_us.expect("a workload that was offered, in a mode of the board");
        let mut random = Random::new(1, &[b"minibatches", wanted.to_string().as_bytes()]);
        lock(&self.board.kernel).set_load(Some(wanted));
        let begun_us = lock(&self.board.kernel).now_us();
        let (mut first, mut next_sample_us) = (FIRST_TIMES, 0);
        let mut clocks = Vec::new();
        loop {
            let took_us = (time_us * first * (1.0 + TIME_SIGMA * random.normal())).max(1.0) as u64;
            first = 1.0;
            let mut now_us = lock(&self.board.kernel).now_us() - begun_us;
            let end_us = now_us + took_us;
            let mut power = Vec::new();
            while next_sample_us <= end_us {
                self.advance_us(next_sample_us.saturating_sub(now_us));
                power.push(board.power());
                clocks.push(self.running(board));
                next_sample_us += SAMPLE_US;
                now_us = lock(&self.board.kernel).now_us() - begun_us;
            }
            lock(&self.board.kernel).advance_to_us(begun_us + end_us);
            let minibatch = Minibatch {
                ended: Duration::from_micros(end_us),
                time_us: u32::try_from(took_us).unwrap_or(u32::MAX),
                power: &power,
            };
            if on_minibatch(&minibatch).is_break() {
                lock(&self.board.kernel).set_load(None);
                return Ok(Running::median(&clocks));
            }
        }
    }

    fn wait(&mut self, pause: Duration) {
        self.advance_us(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX));
    }
}
