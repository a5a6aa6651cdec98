//! `virtual_board SPEC DELAY_MS LOG`: `fulcrumd profile` on a virtual Jetson, in virtual time: its own board
//! control, its own way of measuring, over workloads that are simulated. A profile takes `DELAY_MS` of real
//! time and a line in `LOG` when it begins.

use fulcrum_plan::link::{Hello, Measured, Order};
use fulcrum_runtime::board::Options;
use fulcrum_runtime::profile::course::Limits;
use fulcrum_runtime::profile::measure::RigProfiler;
use fulcrum_runtime::profile::rig::JetsonRig;
use fulcrum_runtime::profile::serve::{Profiler, Report, Trouble, serve};
use fulcrum_tests::virtual_jetson::bench::VirtualWork;
use fulcrum_tests::virtual_jetson::{VirtualJetson, specs};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Writes down what is asked for.
struct Logged<P> {
    profiler: P,
    log: PathBuf,
}

impl<P: Profiler> Profiler for Logged<P> {
    fn hello(&self) -> Hello {
        self.profiler.hello()
    }

    fn profile(&mut self, order: &Order, report: &mut Report<'_>) -> Result<Measured, Trouble> {
        let Order {
            role,
            workload,
            batch,
            mode,
            ..
        } = order;
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        writeln!(log.expect("the log"), "{role:?} {workload} {batch} {mode}").expect("a line");
        self.profiler.profile(order, report)
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, delay_ms, log] = &arguments[..] else {
        panic!("virtual_board SPEC DELAY_MS LOG");
    };
    let spec = specs().into_iter().find(|spec| spec.name == *name);
    let spec = spec.expect("a virtual board");
    let jetson = VirtualJetson::start(&spec);
    let stock = jetson.kernel().state();
    let delay = Duration::from_millis(delay_ms.parse().expect("a number of ms"));
    let options = Options {
        accept_other_clocks: true,
        ..Options::default()
    };
    let work = VirtualWork::new(&jetson, &spec.board, delay);
    let rig = JetsonRig::new(jetson.discover(options), work);
    let mut profiler = Logged {
        profiler: RigProfiler {
            hello: rig.hello(),
            limits: Limits::default(),
            rig,
        },
        log: log.into(),
    };
    let never = AtomicBool::new(false);
    let patience = Duration::from_secs(60);
    serve(io::stdin(), io::stdout(), &mut profiler, &never, patience).expect("a sound link");
    drop(profiler);
    assert_eq!(jetson.kernel().state(), stock, "the clocks are back");
}
