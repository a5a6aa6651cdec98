//! Boards that are shell scripts: they print frames that were made beforehand.

use super::*;
use crate::profile::Fault;
use fulcrum_plan::GpuMasks;
use fulcrum_plan::link::{FRAME_LEN_MAX, No, Offer, Reason, Stage, encode, text};
use fulcrum_plan::table;
use fulcrum_plan::units::{MicroSec, MilliWatt};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

const MODE: PowerMode = PowerMode {
    cores: 2,
    cpu_khz: Khz(1_344_000),
    gpu_khz: Khz(930_750),
    emc_khz: Khz(2_133_000),
};

/// For boards that answer: a busy machine may take its time.
const PATIENT: Patience = Patience {
    answer: Duration::from_secs(60),
    margin: Duration::from_secs(60),
    profile: Duration::from_secs(120),
    restarts: 2,
    pause: Duration::from_millis(1),
};
/// For boards that do not.
const BRIEF: Duration = Duration::from_millis(200);

fn run() -> Run {
    Run {
        mode: MODE,
        role: Role::Train,
        workload: "lstm".into(),
        batch: 16,
    }
}

fn hello() -> Hello {
    let workload = table::Workload {
        name: "lstm".try_into().unwrap(),
        batches: [16].into_iter().collect(),
    };
    let offer = Offer {
        role: link::Role::Train,
        workload,
    };
    Hello {
        board: "orin-agx".try_into().unwrap(),
        module: "p3701-0005".try_into().unwrap(),
        l4t: None,
        cores: 2,
        cpu_khz: [Khz(729_600), MODE.cpu_khz].into_iter().collect(),
        gpu_khz: [MODE.gpu_khz].into_iter().collect(),
        emc_khz: [MODE.emc_khz].into_iter().collect(),
        counts_over_current: true,
        gpu_masks: GpuMasks::default(),
        offers: [offer].into_iter().collect(),
    }
}

fn measured(number: u32) -> Measured {
    Measured {
        number,
        time_us: MicroSec(70_020),
        time_spread_us: MicroSec(300),
        power_mw: MilliWatt(29_488),
        power_spread_mw: MilliWatt(200),
        mode_before: MODE,
        mode_after: MODE,
        over_current_events: Some(0),
        throttled: false,
        minibatches: 40,
        warm_up: 5,
        settled: true,
    }
}

fn no(number: u32) -> No {
    No {
        number,
        reason: Reason::Power,
        text: text("rail VDD_IN is absent"),
    }
}

fn progress(number: u32, left_ms: u32) -> Response {
    Response::Progress(Progress {
        number,
        stage: Stage::Settle,
        minibatches: 0,
        left_ms,
    })
}

/// A folder with files of frames, in which a script runs.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fulcrum-exec-{}-{test}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        let folder = Self(path);
        folder.file("hello", &[Response::Hello(hello())]);
        folder
    }

    fn file(&self, name: &str, responses: &[Response]) {
        let mut bytes = Vec::new();
        for response in responses {
            bytes.extend(encode(response, &mut [0; FRAME_LEN_MAX]).unwrap());
        }
        std::fs::write(self.0.join(name), bytes).unwrap();
    }

    fn command(&self, script: &str) -> String {
        format!("cd '{}' && {script}", self.0.display())
    }

    /// A board whose first process runs `first`, and every other one `then`.
    fn changing(&self, first: &str, then: &str) -> String {
        self.command(&format!(
            "if mkdir once 2>/dev/null; then {first}; else {then}; fi"
        ))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

type Log = Rc<RefCell<Vec<String>>>;

fn open(command: &str, patience: Patience) -> (Result<Exec, OpenError>, Log) {
    let log = Log::default();
    let entries = Rc::clone(&log);
    let on_notice = Box::new(move |notice: Notice<'_>| {
        entries.borrow_mut().push(format!("{notice:?}"));
    });
    (Exec::open(command, None, patience, on_notice), log)
}

fn profile(command: &str) -> (Result<Measurement, ProfileError>, Log) {
    profile_within(command, PATIENT)
}

fn profile_within(command: &str, patience: Patience) -> (Result<Measurement, ProfileError>, Log) {
    let (exec, log) = open(command, patience);
    (exec.unwrap().profile(&run()), log)
}

fn count(log: &Log, what: &str) -> usize {
    log.borrow()
        .iter()
        .filter(|line| line.starts_with(what))
        .count()
}

#[test]
fn a_board_behind_a_login_banner_is_measured() {
    let folder = Folder::new("banner");
    let answers = [progress(1, 100), Response::Measured(measured(1))];
    folder.file("answers", &answers);
    // Two pipes have no common order: it answers once the line has been read.
    let command = folder.command(
        "echo Welcome; echo on-stderr >&2; cat hello; until [ -e said ]; do sleep 0.01; done; cat answers -",
    );
    let (log, said) = (Log::default(), folder.0.join("said"));
    let entries = Rc::clone(&log);
    let on_notice = Box::new(move |notice: Notice<'_>| {
        if matches!(notice, Notice::Said(_)) {
            std::fs::write(&said, "").unwrap();
        }
        entries.borrow_mut().push(format!("{notice:?}"));
    });
    let mut exec = Exec::open(&command, None, PATIENT, on_notice).unwrap();
    assert_eq!(exec.board(), "orin-agx");
    assert_eq!(exec.identity(), "exec orin-agx p3701-0005");
    assert_eq!(exec.workloads().len(), 1);
    let modes = exec.modes(&[]);
    assert_eq!(modes.len(), 4);
    assert!(modes.is_sorted() && modes.contains(&MODE));
    let measurement = exec.profile(&run()).unwrap();
    assert_eq!(measurement.fault(&MODE), None);
    assert_eq!(measurement.cell.time_us, MicroSec(70_020));
    assert_eq!(count(&log, "Progress"), 1);
    assert_eq!(count(&log, "Said(\"on-stderr\")"), 1);
}

#[test]
fn a_lost_link_costs_one_try() {
    let folder = Folder::new("lost");
    folder.file("answer", &[Response::Measured(measured(1))]);
    let command = folder.changing("cat hello; sleep 0.1; echo gone >&2", "cat hello answer -");
    let (outcome, log) = profile(&command);
    assert_eq!(outcome.unwrap().fault(&MODE), None);
    assert_eq!(count(&log, "Again"), 1, "{log:?}");
    assert!(
        log.borrow().iter().any(|line| line.contains("gone")),
        "{log:?}"
    );
}

#[test]
fn a_hang_is_noticed_and_after_the_last_try_the_board_is_lost() {
    let folder = Folder::new("hang");
    folder.file("begun", &[progress(1, 20)]);
    let begun = Instant::now();
    let patience = Patience {
        margin: BRIEF,
        ..PATIENT
    };
    let command = folder.command("cat hello begun; exec sleep 1000");
    let (outcome, log) = profile_within(&command, patience);
    assert!(
        matches!(outcome, Err(ProfileError::Lost { .. })),
        "{outcome:?}"
    );
    assert_eq!(count(&log, "Again"), 2, "{log:?}");
    // Three tries of 260 ms beyond what they take to begin, and three processes that had to be killed.
    assert!(begun.elapsed() < PATIENT.answer, "{:?}", begun.elapsed());
}

#[test]
fn a_command_that_says_nothing_or_ends_is_no_source() {
    let patience = Patience {
        answer: BRIEF,
        ..PATIENT
    };
    let (outcome, _) = open("exec sleep 1000", patience);
    let message = outcome.unwrap_err().to_string();
    assert!(message.contains("no answer in time"), "{message}");
    let (outcome, _) = open("echo no route to robot >&2; exit 255", PATIENT);
    let message = outcome.unwrap_err().to_string();
    assert!(
        message.contains("255") && message.contains("no route to robot"),
        "{message}"
    );
}

#[test]
fn another_board_is_refused_at_the_start_and_after_a_reconnection() {
    let folder = Folder::new("other");
    let other = Hello {
        board: "orin-nx-16".try_into().unwrap(),
        ..hello()
    };
    folder.file("other", &[Response::Hello(other)]);
    let wrong = folder.command("cat other -");
    let opened = Exec::open(&wrong, Some("orin-agx"), PATIENT, Box::new(|_| {}));
    assert!(matches!(opened, Err(OpenError::Board { .. })), "{opened:?}");
    let (outcome, _) = profile(&folder.changing("cat hello", "cat other -"));
    let message = outcome.unwrap_err().to_string();
    assert!(message.contains("another board answers"), "{message}");
}

#[test]
fn what_is_refused_is_not_asked_again_and_what_failed_is() {
    let folder = Folder::new("refused");
    folder.file("refused", &[Response::Refused(no(1))]);
    folder.file(
        "failed",
        &[Response::Failed(no(1)), Response::Measured(measured(1))],
    );
    let (outcome, log) = profile(&folder.command("cat hello refused -"));
    let message = outcome.unwrap_err().to_string();
    assert!(message.contains("rail VDD_IN is absent"), "{message}");
    assert_eq!(count(&log, "Again"), 0);
    let (outcome, log) = profile(&folder.command("cat hello failed -"));
    assert_eq!(outcome.unwrap().fault(&MODE), None);
    assert_eq!(count(&log, "Again"), 1);
}

#[test]
fn i7_a_clock_that_was_wrong_before_or_after_or_throttled_is_a_fault() {
    let wrong = PowerMode {
        gpu_khz: Khz(306_000),
        ..MODE
    };
    let fault = |change: fn(&mut Measured, PowerMode)| {
        let mut measured = measured(1);
        change(&mut measured, wrong);
        measurement(&run(), &measured).fault(&MODE)
    };
    assert_eq!(fault(|m, wrong| m.mode_before = wrong), Some(Fault::Clocks));
    assert_eq!(fault(|m, wrong| m.mode_after = wrong), Some(Fault::Clocks));
    assert_eq!(
        fault(|m, _| m.over_current_events = Some(1)),
        Some(Fault::OverCurrent)
    );
    assert_eq!(fault(|m, _| m.throttled = true), Some(Fault::Thermal));
    assert_eq!(fault(|m, _| m.over_current_events = None), None);
}
