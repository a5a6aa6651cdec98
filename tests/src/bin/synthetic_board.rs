//! `synthetic_board BOARD SEED DELAY_MS`: a board that is simulated behind the real link: what
//! `fulcrumd profile` serves, measured by the planner's synthetic source. With it, a plan through a
//! process, or through ssh, can be compared byte by byte with one that was made without.

use fulcrum_plan::board::Clocks;
use fulcrum_plan::link::{self, Hello, Measured, Offer, Order, Progress, Reason, Stage};
use fulcrum_plan::table;
use fulcrum_plan::units::{Khz, MicroSec, MilliWatt};
use fulcrum_plan::{GpuMasks, PowerMode};
use fulcrum_planner::boards;
use fulcrum_planner::profile::synthetic::Synthetic;
use fulcrum_planner::profile::{ProfileSource, Run};
use fulcrum_planner::workload::{Role, Workload};
use fulcrum_runtime::profile::serve::{Profiler, Report, Trouble, serve};
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use std::{env, io, thread};

/// The planner's source, and how long a profile takes.
struct Board {
    source: Synthetic,
    delay: Duration,
}

impl Profiler for Board {
    fn hello(&self) -> Hello {
        let modes = self.source.modes(&[]);
        let offers = self.source.workloads().iter().map(offer);
        Hello {
            board: self.source.board().try_into().expect("a board's name"),
            module: "synthetic".try_into().expect("short"),
            l4t: None,
            cores: modes.iter().map(|mode| mode.cores).max().unwrap_or(0),
            cpu_khz: clocks(&modes, |mode| mode.cpu_khz),
            gpu_khz: clocks(&modes, |mode| mode.gpu_khz),
            emc_khz: clocks(&modes, |mode| mode.emc_khz),
            counts_over_current: true,
            gpu_masks: GpuMasks::default(),
            offers: offers.collect(),
        }
    }

    fn profile(&mut self, order: &Order, report: &mut Report<'_>) -> Result<Measured, Trouble> {
        let progress = Progress {
            number: order.number,
            stage: Stage::Measure,
            minibatches: 0,
            left_ms: u32::try_from(self.delay.as_millis()).unwrap_or(u32::MAX),
        };
        if report(progress).is_break() {
            return Err(Trouble::Abandoned);
        }
        thread::sleep(self.delay);
        let run = Run {
            mode: order.mode,
            role: match order.role {
                link::Role::Train => Role::Train,
                link::Role::Infer => Role::Infer,
            },
            workload: order.workload.as_str().to_owned(),
            batch: order.batch,
        };
        let measured = self.source.profile(&run);
        let measured = measured.map_err(|error| Trouble::refused(Reason::Workload, error))?;
        Ok(Measured {
            number: order.number,
            time_us: measured.cell.time_us,
            time_spread_us: MicroSec(0),
            power_mw: measured.cell.power_mw,
            power_spread_mw: MilliWatt(0),
            mode_before: measured.mode_read_back,
            mode_after: measured.mode_read_back,
            over_current_events: Some(measured.over_current_events),
            throttled: measured.thermally_throttled,
            minibatches: 40,
            warm_up: 2,
            settled: true,
        })
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

fn clocks(modes: &[PowerMode], clock: fn(&PowerMode) -> Khz) -> Clocks {
    let clocks: BTreeSet<Khz> = modes.iter().map(clock).collect();
    clocks.into_iter().collect()
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [board, seed, delay_ms] = &arguments[..] else {
        panic!("synthetic_board BOARD SEED DELAY_MS");
    };
    let board = boards::named(board).expect("a known board");
    let mut board = Board {
        source: Synthetic::new(board, seed.parse().expect("a seed")),
        delay: Duration::from_millis(delay_ms.parse().expect("a number of ms")),
    };
    let never = AtomicBool::new(false);
    let patience = Duration::from_secs(60);
    serve(io::stdin(), io::stdout(), &mut board, &never, patience).expect("a sound link");
}
