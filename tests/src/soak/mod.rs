//! A soak: `fulcrumd` with a real ONNX Runtime for as long as asked, while everything around it misbehaves.
//!
//! The time is cut into *lives*: one `fulcrumd run` each, ended by SIGTERM (with clients at rest, or in the
//! middle of their traffic) or by SIGKILL (mended by the next start, or by `fulcrumd restore`). The first
//! life takes two fifths of the time, so that slow growth shows. During a life
//!
//! - two clients send at random times and account for every request (`ledger`);
//! - others leave in the middle, flood without reading, send garbage, crowd the socket, or send a sample that
//!   makes the engine fail (`clients`); one training step in a hundred fails, too;
//! - sensor files vanish or tell of too much power, and a second actor rewrites the clocks (`board`);
//! - memory, files and threads of the process are sampled (`memory`).
//!
//! What must hold is collected as *violations*: no growth, no missed restore, no request unaccounted for, by
//! its client and by the server's own sum; no Rust allocation in the loop.

mod board;
mod clients;
mod ledger;
mod life;
mod memory;

use crate::device::Device;
use crate::models;
use crate::programs;
use fulcrum_runtime::random::Random;
use ledger::Ledger;
use life::{End, Life};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a life after the first lasts at most.
const LIFE_MAX: Duration = Duration::from_secs(240);
/// So many there are, however long the first one took to start: the second finds what the first one left.
const LIVES_MIN: u32 = 2;
/// How long it lasts at least: some traffic after the sessions were loaded.
const LIFE_MIN: Duration = Duration::from_secs(3);

/// A soak.
#[derive(Clone, Copy, Debug)]
pub struct Soak {
    /// Time for all lives together.
    pub duration: Duration,
    /// Seed of everything random.
    pub seed: u64,
}

/// What a soak found.
#[derive(Debug, Default)]
pub struct Report {
    /// Lives of `fulcrumd`.
    pub lives: u32,
    /// Requests that clients sent, and what became of them.
    pub requests: Ledger,
    /// Training steps, and those that failed.
    pub steps: [u64; 2],
    /// Faults that were injected into the board's files.
    pub board_faults: u64,
    /// What should not have happened.
    pub violations: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [steps, lost] = self.steps;
        write!(
            f,
            "{} lives; requests: {}; {steps} training steps, {lost} failed; {} faults of the board; \
             {} violations",
            self.lives,
            self.requests,
            self.board_faults,
            self.violations.len()
        )
    }
}

/// What every life is made of.
struct Stage {
    device: Device,
    /// The board's files before anything touched them.
    stock: BTreeMap<PathBuf, String>,
    infer: PathBuf,
    train: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let device = Device::new();
        // Read from copies: a checkout may change under an hour's run.
        let copy = |from: PathBuf, name: &str| {
            let to = device.path(name);
            fs::copy(from, &to).expect("a copy of a model");
            to
        };
        let infer = copy(models::engine("digits_infer.onnx"), "infer.onnx");
        let train = copy(models::engine("digits_train.onnx"), "train.onnx");
        copy(models::digits("train.params"), "train.params");
        Self {
            stock: device.board(),
            infer,
            train,
            device,
        }
    }
}

/// Runs a soak, and says on standard output how each life went.
#[must_use]
pub fn run(soak: &Soak) -> Report {
    println!("soak of {:?}, seed {}", soak.duration, soak.seed);
    let stage = Stage::new();
    // The first call builds it, which is not the soak's time.
    drop(programs::fulcrumd());
    let (start, mut random) = (Instant::now(), Random::new(soak.seed));
    let mut report = Report::default();
    for end in End::ALL.into_iter().cycle() {
        let left = soak.duration.saturating_sub(start.elapsed());
        if report.lives >= LIVES_MIN && left < LIFE_MIN {
            break;
        }
        let length = match report.lives {
            0 => soak.duration * 2 / 5,
            _ => LIFE_MIN + LIFE_MAX.min(left / 2).mul_f64(random.unit()),
        };
        let life = Life {
            number: report.lives,
            length,
            end,
            seed: random.next_bits(),
        };
        life.run(&stage, &mut report);
        report.lives += 1;
        println!("{:>5} s: {report}", start.elapsed().as_secs());
    }
    // The last life may have been killed.
    report.violations.extend(stage.restore());
    if stage.device.board() != stage.stock {
        report
            .violations
            .push("the board is not as it was at the end".into());
    }
    report
}
