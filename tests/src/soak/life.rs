//! One life of `fulcrumd`: start, traffic and faults, end, and what must hold then.

use super::board::Disturbance;
use super::clients::{World, rogues, steady};
use super::ledger::Ledger;
use super::memory::Memory;
use super::{Report, Stage};
use crate::programs::{Answer, fulcrumd};
use fulcrum_runtime::client::Client;
use fulcrum_runtime::random::Random;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Clients that do everything right.
const STEADY: usize = 2;

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// SIGTERM, after every client has its answers.
    AtRest,
    /// SIGKILL; the next start finds the clocks changed, and mends it.
    KilledThenStart,
    /// SIGTERM in the middle of the traffic.
    InTraffic,
    /// SIGKILL; `fulcrumd restore` mends it.
    KilledThenRestore,
}

impl End {
    /// All of them, in the order in which lives end.
    pub(super) const ALL: [Self; 4] = [
        Self::AtRest,
        Self::KilledThenStart,
        Self::InTraffic,
        Self::KilledThenRestore,
    ];

    const fn is_kill(self) -> bool {
        matches!(self, Self::KilledThenStart | Self::KilledThenRestore)
    }
}

/// One life.
pub(super) struct Life {
    pub(super) number: u32,
    pub(super) length: Duration,
    pub(super) end: End,
    pub(super) seed: u64,
}

/// A started `fulcrumd`, with what it says.
struct Running {
    child: Child,
    lines: thread::JoinHandle<Vec<String>>,
}

impl Life {
    /// Lives, and adds what was found to the report.
    pub(super) fn run(&self, stage: &Stage, report: &mut Report) {
        let before = report.violations.len();
        match self.start(stage) {
            Ok(running) => self.spend(stage, running, report),
            Err(said) => report
                .violations
                .push(format!("fulcrumd did not start: {said:?}")),
        }
        for violation in &mut report.violations[before..] {
            *violation = format!("life {} ({:?}): {violation}", self.number, self.end);
            println!("VIOLATION {violation}");
        }
        if report.violations.len() > before {
            let log = fs::read_to_string(stage.device.path("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            println!("{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }

    fn start(&self, stage: &Stage) -> Result<Running, Vec<String>> {
        let (socket, checkpoint) = (
            stage.device.path("requests"),
            stage.device.path("trained.params"),
        );
        let mut child = stage
            .device
            .run(&[
                ("--listen", &socket),
                ("--infer", &stage.infer),
                ("--train", &stage.train),
                ("--checkpoint", &checkpoint),
                ("--duration-s", Path::new("1000000")),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(stage.device.path("log")).expect("a log"))
            .spawn()
            .expect("fulcrumd starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("its output"));
        let mut first = String::new();
        let read = stdout.read_line(&mut first);
        let lines = thread::spawn(move || {
            // An hour has 3,600 lines; the last two are enough.
            let mut last = Vec::new();
            for line in stdout.lines().map_while(Result::ok) {
                last.splice(..last.len().saturating_sub(1), []);
                last.push(line);
            }
            last
        });
        if read.is_ok() && first.contains("\"started\"") {
            return Ok(Running { child, lines });
        }
        let _ = child.wait();
        Err(lines.join().unwrap_or_default())
    }

    fn spend(&self, stage: &Stage, running: Running, report: &mut Report) {
        let Running { mut child, lines } = running;
        let (stop, rest, ending) = (
            AtomicBool::new(false),
            AtomicBool::new(false),
            AtomicBool::new(false),
        );
        let violations = Mutex::new(Vec::new());
        let socket = stage.device.path("requests");
        let world = World {
            socket: &socket,
            stop: &rest,
            ending: &ending,
            violations: &violations,
        };
        let board = stage.device.path("board");
        let disturbance = Disturbance {
            root: &board,
            stock: &stage.stock,
        };
        let (world, disturbance, stop) = (&world, &disturbance, &stop);
        let mut random = Random::new(self.seed);
        let mut memory = Memory::of(child.id());
        // First, so that a crowd cannot keep them out.
        let clients = [(); STEADY].map(|()| Client::connect(&socket));
        let (requests, board_faults) = thread::scope(|scope| {
            let mut random = || Random::new(random.next_bits());
            let mut clients: Vec<_> = clients
                .into_iter()
                .filter_map(|client| match client {
                    Ok(client) => {
                        let random = random();
                        Some(scope.spawn(move || steady(world, client, random)))
                    }
                    Err(error) => {
                        world.accuse(format!("a client cannot connect: {error}"));
                        None
                    }
                })
                .collect();
            let of_rogues = random();
            clients.push(scope.spawn(move || rogues(world, of_rogues)));
            let of_board = random();
            let disturbing = scope.spawn(move || disturbance.run(of_board, stop));
            let end = Instant::now() + self.length;
            while Instant::now() < end {
                thread::sleep(Duration::from_secs(1).min(self.length / 8));
                memory.sample();
            }
            stop.store(true, Ordering::Relaxed);
            let faults = disturbing.join().unwrap_or(0);
            let end_now = |child: &mut Child| {
                ending.store(true, Ordering::Relaxed);
                let signal = if self.end.is_kill() { "KILL" } else { "TERM" };
                let kill = Command::new("kill")
                    .args(["-s", signal, &child.id().to_string()])
                    .status();
                assert!(
                    kill.is_ok_and(|status| status.success()),
                    "fulcrumd is there to be ended"
                );
            };
            if self.end != End::AtRest {
                end_now(&mut child);
            }
            rest.store(true, Ordering::Relaxed);
            let requests: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
            if self.end == End::AtRest {
                end_now(&mut child);
            }
            (requests, faults)
        });
        let mut found = violations.into_inner().unwrap_or_default();
        let mut sum = Ledger::default();
        for ledger in requests {
            match ledger {
                Ok(ledger) if ledger.balances() => sum = sum.plus(ledger),
                Ok(ledger) => found.push(format!("a client's requests do not add up: {ledger}")),
                Err(_) => found.push("a client panicked".into()),
            }
        }
        let status = child.wait().expect("its end");
        let lines = lines.join().unwrap_or_default();
        let last: Value = lines
            .last()
            .and_then(|line| serde_json::from_str(line).ok())
            .unwrap_or_default();
        if !self.end.is_kill() {
            found.extend(judge(&last, sum));
            if status.code() != Some(0) {
                found.push(format!("it ended with {status}"));
            }
        }
        found.extend(memory.growth(self.length));
        if self.end == End::KilledThenRestore {
            found.extend(stage.restore());
        }
        let board = stage.device.board();
        if self.end != End::KilledThenStart && board != stage.stock {
            let paths = board.keys().chain(stage.stock.keys());
            let other = paths.filter(|path| board.get(*path) != stage.stock.get(*path));
            let other: BTreeMap<_, _> = other
                .map(|path| (path, (board.get(path), stage.stock.get(path))))
                .collect();
            found.push(format!("the board is not as it was: {other:?}"));
        }
        println!(
            "  life {} of {:?}, {:?}: {}",
            self.number,
            self.length,
            self.end,
            memory.text()
        );
        report.requests = report.requests.plus(sum);
        report.board_faults += board_faults;
        report.steps[0] += last["steps"].as_u64().unwrap_or(0);
        report.steps[1] += last["steps_lost"].as_u64().unwrap_or(0);
        report.violations.append(&mut found);
    }
}

impl Stage {
    /// `fulcrumd restore`, and what is wrong with it.
    pub(super) fn restore(&self) -> Option<String> {
        let mut restore = fulcrumd();
        restore
            .args(["restore", "--sysfs-root"])
            .arg(self.device.path("board"));
        let answer = Answer::of(restore.arg("--state-dir").arg(self.device.path("state")));
        (answer.code != Some(0)).then(|| format!("restore: {}", answer.text()))
    }
}

/// What a summary must say, given what became of the clients' requests.
fn judge(summary: &Value, clients: Ledger) -> Vec<String> {
    let count = |name: &str| summary[name].as_u64().unwrap_or(u64::MAX);
    let mut found = Vec::new();
    let parts = ["served", "rejected", "dropped", "failed", "waiting"];
    let ended = parts
        .iter()
        .map(|name| count(name))
        .fold(0, u64::saturating_add);
    if ended != count("arrived") {
        found.push(format!("the server's requests do not add up: {summary}"));
    }
    let told = [
        clients.answered,
        clients.rejected,
        clients.dropped,
        clients.failed,
    ];
    if told
        .iter()
        .zip(parts)
        .any(|(told, name)| *told > count(name))
    {
        found.push(format!(
            "clients were told of more than was done: {clients}; {summary}"
        ));
    }
    for (name, expected) in [("allocations_in_loop", 0), ("frees_in_loop", 0)] {
        if count(name) != expected {
            found.push(format!("{name}: {summary}"));
        }
    }
    if summary["restored"] != true {
        found.push(format!("clocks not restored: {summary}"));
    }
    found
}
