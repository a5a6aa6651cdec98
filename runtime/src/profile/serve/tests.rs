//! Conversations over pipes with a board that measures nothing.

use super::*;
use fulcrum_plan::link::{Role, Stage};
use fulcrum_plan::units::{MicroSec, MilliWatt};
use fulcrum_plan::{GpuMasks, PowerMode};
use std::io::{PipeReader, PipeWriter, Read, pipe};
use std::thread::{self, JoinHandle};

const PATIENT: Duration = Duration::from_secs(60);

/// Reports until it has reported `reports` times, then answers.
struct Fake {
    reports: u32,
    abandoned: bool,
}

fn hello() -> Hello {
    Hello {
        board: "orin-agx".try_into().unwrap(),
        module: "p3701-0005".try_into().unwrap(),
        l4t: None,
        cores: 12,
        cpu_khz: Default::default(),
        gpu_khz: Default::default(),
        emc_khz: Default::default(),
        counts_over_current: false,
        gpu_masks: GpuMasks::default(),
        offers: Default::default(),
    }
}

fn order(number: u32, batch: u16) -> Order {
    Order {
        number,
        mode: PowerMode::default(),
        role: Role::Train,
        workload: "lstm".try_into().unwrap(),
        batch,
    }
}

impl Profiler for Fake {
    fn hello(&self) -> Hello {
        hello()
    }

    fn profile(&mut self, order: &Order, report: &mut Report<'_>) -> Result<Measured, Trouble> {
        if order.batch == 0 {
            return Err(Trouble::refused(Reason::Workload, "no batch size 0"));
        }
        for _ in 0..self.reports {
            let progress = Progress {
                number: order.number,
                stage: Stage::Measure,
                minibatches: 3,
                left_ms: 1_000,
            };
            if report(progress).is_break() {
                self.abandoned = true;
                return Err(Trouble::Abandoned);
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(Measured {
            number: order.number,
            time_us: MicroSec(70_020),
            time_spread_us: MicroSec(300),
            power_mw: MilliWatt(29_488),
            power_spread_mw: MilliWatt(200),
            mode_before: order.mode,
            mode_after: order.mode,
            over_current_events: None,
            throttled: false,
            minibatches: 40,
            warm_up: 5,
            settled: true,
        })
    }
}

/// The planner's ends of the pipes, and the service behind them.
struct Conversation {
    requests: PipeWriter,
    responses: PipeReader,
    service: JoinHandle<(io::Result<End>, bool)>,
}

/// Begins with a request that lies there already.
fn begin(
    request: &Request,
    reports: u32,
    stop: &'static AtomicBool,
    idle_max: Duration,
) -> Conversation {
    let (input, mut requests) = pipe().unwrap();
    let (responses, output) = pipe().unwrap();
    write(&mut requests, request);
    let service = thread::spawn(move || {
        let mut fake = Fake {
            reports,
            abandoned: false,
        };
        let end = serve(input, output, &mut fake, stop, idle_max);
        (end, fake.abandoned)
    });
    Conversation {
        requests,
        responses,
        service,
    }
}

fn write(requests: &mut PipeWriter, request: &Request) {
    let mut buffer = [0; FRAME_LEN_MAX];
    let frame = encode(request, &mut buffer).unwrap();
    requests.write_all(frame).unwrap();
}

static NEVER: AtomicBool = AtomicBool::new(false);

impl Conversation {
    fn ask(&mut self, request: &Request) {
        write(&mut self.requests, request);
    }

    /// The next `count` responses.
    fn answers(&mut self, count: usize) -> Vec<Response> {
        let mut receiver = Receiver::default();
        let mut found = Vec::new();
        let mut byte = [0];
        while found.len() < count && self.responses.read(&mut byte).unwrap() == 1 {
            found.extend(receiver.push(byte[0]).map(Result::unwrap));
        }
        found
    }
}

#[test]
fn requests_are_answered_in_turn_and_the_end_of_input_ends_it() {
    let mut it = begin(&Request::Hello, 2, &NEVER, PATIENT);
    assert_eq!(it.answers(1), [Response::Hello(hello())]);
    it.requests.write_all(b"garbage\0\x01\0").unwrap();
    it.ask(&Request::Profile(order(1, 16)));
    let answers = it.answers(3);
    assert!(matches!(
        answers[..2],
        [Response::Progress(_), Response::Progress(_)]
    ));
    assert!(matches!(&answers[2], Response::Measured(found) if found.number == 1));
    it.ask(&Request::Profile(order(2, 0)));
    assert!(matches!(&it.answers(1)[0], Response::Refused(no) if no.number == 2));
    drop(it.requests);
    let (end, abandoned) = it.service.join().unwrap();
    assert_eq!((end.unwrap(), abandoned), (End::Input, false));
}

#[test]
fn the_end_of_input_in_the_middle_of_a_profile_abandons_it() {
    let mut it = begin(&Request::Profile(order(1, 16)), u32::MAX, &NEVER, PATIENT);
    assert_eq!(it.answers(1).len(), 1);
    drop(it.requests);
    let mut rest = Vec::new();
    it.responses.read_to_end(&mut rest).unwrap();
    let (end, abandoned) = it.service.join().unwrap();
    assert_eq!((end.unwrap(), abandoned), (End::Input, true));
}

#[test]
fn output_that_nobody_reads_abandons_it_too() {
    let it = begin(&Request::Profile(order(1, 16)), u32::MAX, &NEVER, PATIENT);
    drop(it.responses);
    let (end, abandoned) = it.service.join().unwrap();
    assert_eq!((end.unwrap(), abandoned), (End::Input, true));
}

#[test]
fn a_signal_ends_it_while_it_waits_and_while_it_measures() {
    for reports in [0, u32::MAX] {
        static STOP: AtomicBool = AtomicBool::new(false);
        STOP.store(false, Ordering::Relaxed);
        let mut it = begin(&Request::Profile(order(1, 16)), reports, &STOP, PATIENT);
        assert_eq!(it.answers(1).len(), 1);
        STOP.store(true, Ordering::Relaxed);
        let reader = thread::spawn(move || it.responses.read_to_end(&mut Vec::new()));
        let (end, abandoned) = it.service.join().unwrap();
        assert_eq!((end.unwrap(), abandoned), (End::Signal, reports > 0));
        reader.join().unwrap().unwrap();
    }
}

#[test]
fn a_planner_that_asks_for_nothing_is_left() {
    // What was asked before its patience ended is answered, however late it comes to read that.
    for idle_max in [Duration::ZERO, Duration::from_millis(50)] {
        let mut it = begin(&Request::Hello, 0, &NEVER, idle_max);
        assert_eq!(it.answers(1).len(), 1);
        assert_eq!(it.service.join().unwrap().0.unwrap(), End::Idle);
    }
}
