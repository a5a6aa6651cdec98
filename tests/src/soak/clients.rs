//! Clients of every kind, against one life of `fulcrumd`.

use super::board::pause;
use super::ledger::{Account, Ledger};
use fulcrum_runtime::client::Client;
use fulcrum_runtime::exchange::Status;
use fulcrum_runtime::random::Random;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// A request without an answer for this long is lost, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
/// Mean distance of a steady client's requests, twice.
const GAP_MAX_MS: u64 = 100;
/// More connections than `fulcrumd` takes.
const CROWD: usize = 20;
/// Enough answers that nobody reads for a disconnection.
const FLOOD: u64 = 6_000;
/// A pixel that the model of the soak fails on.
const POISON: f32 = 1_000.5;

/// What the clients of one life share.
pub(super) struct World<'a> {
    pub(super) socket: &'a Path,
    /// Time to send no more.
    pub(super) stop: &'a AtomicBool,
    /// `fulcrumd` is being ended: connections may break.
    pub(super) ending: &'a AtomicBool,
    pub(super) violations: &'a Mutex<Vec<String>>,
}

impl World<'_> {
    pub(super) fn accuse(&self, what: String) {
        let mut violations = self
            .violations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        violations.push(what);
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Enters an answer; one that nobody waits for is a violation.
    fn enter(&self, account: &mut Account, id: u64, status: Status) {
        if !account.ended(id, status) {
            self.accuse(format!(
                "an answer that nobody waits for: id {id}, {status:?}"
            ));
        }
    }
}

fn sample(random: &mut Random, length: usize) -> Vec<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "a grey value")]
    (0..length).map(|_| random.unit() as f32).collect()
}

/// A client that does everything right: sends at random times, reads every answer, and misses none.
pub(super) fn steady(world: &World<'_>, client: Client, mut random: Random) -> Ledger {
    let (mut requests, mut replies) = client.split();
    let account = Mutex::new(Account::default());
    let lock = || account.lock().unwrap_or_else(PoisonError::into_inner);
    let (asked, due) = mpsc::channel();
    let _ = replies.set_timeout(Some(PATIENCE));
    thread::scope(|scope| {
        scope.spawn(move || {
            for id in 0.. {
                if pause(&mut random, GAP_MAX_MS, world.stop) {
                    break;
                }
                let sample = sample(&mut random, requests.sample_len());
                lock().sent(id);
                if requests.send(id, &sample).is_err() || asked.send(()).is_err() {
                    break;
                }
            }
        });
        // One answer for each request, no more and no fewer.
        while due.recv().is_ok() {
            match replies.receive() {
                Ok(reply) => world.enter(&mut lock(), reply.id, reply.status),
                Err(error) => {
                    if !world.is_ending() {
                        world.accuse(format!("{} requests are lost: {error}", lock().waiting()));
                    }
                    return;
                }
            }
        }
        let _ = replies.set_timeout(Some(Duration::from_millis(50)));
        if let Ok(reply) = replies.receive() {
            world.accuse(format!("one answer too many: id {}", reply.id));
        }
    });
    account
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .close()
}

/// Clients that do everything wrong, one after the other.
pub(super) fn rogues(world: &World<'_>, mut random: Random) -> Ledger {
    let mut ledger = Ledger::default();
    while !pause(&mut random, 3_000, world.stop) {
        let account = match random.below(5) {
            0 => leave(world, &mut random),
            1 => flood(world, &mut random),
            2 => poison(world, &mut random),
            3 => {
                garbage(world, &mut random);
                None
            }
            _ => {
                let crowd: Vec<_> = (0..CROWD)
                    .map(|_| UnixStream::connect(world.socket))
                    .collect();
                pause(&mut random, 500, world.stop);
                drop(crowd);
                None
            }
        };
        ledger = ledger.plus(account.unwrap_or_default().close());
    }
    ledger
}

/// Leaves before all answers are there.
fn leave(world: &World<'_>, random: &mut Random) -> Option<Account> {
    let (mut requests, mut replies) = Client::connect(world.socket).ok()?.split();
    replies.set_timeout(Some(PATIENCE)).ok()?;
    let mut account = Account::default();
    let count = 1 + random.below(40);
    for id in 0..count {
        account.sent(id);
        let sample = sample(random, requests.sample_len());
        if requests.send(id, &sample).is_err() {
            return Some(account);
        }
    }
    for _ in 0..random.below(10).min(count) {
        let Ok(reply) = replies.receive() else { break };
        world.enter(&mut account, reply.id, reply.status);
    }
    Some(account)
}

/// Sends without reading until it is disconnected, then reads what there is.
fn flood(world: &World<'_>, random: &mut Random) -> Option<Account> {
    let client = Client::connect(world.socket).ok()?;
    let sample = sample(random, client.sample_len());
    let (mut requests, mut replies) = client.split();
    replies.set_timeout(Some(Duration::from_secs(1))).ok()?;
    let mut account = Account::default();
    for id in 0..FLOOD {
        account.sent(id);
        if requests.send(id, &sample).is_err() {
            break;
        }
    }
    while account.waiting() > 0 {
        let Ok(reply) = replies.receive() else { break };
        world.enter(&mut account, reply.id, reply.status);
    }
    Some(account)
}

/// Makes the engine fail once; the next request of the same client is served again.
fn poison(world: &World<'_>, random: &mut Random) -> Option<Account> {
    let client = Client::connect(world.socket).ok()?;
    let (mut requests, mut replies) = client.split();
    replies.set_timeout(Some(PATIENCE)).ok()?;
    let mut account = Account::default();
    for id in 0..2 {
        let mut sample = sample(random, requests.sample_len());
        if id == 0 {
            sample[0] = POISON;
        }
        account.sent(id);
        if requests.send(id, &sample).is_err() {
            return Some(account);
        }
        let reply = match replies.receive() {
            Ok(reply) => reply,
            Err(_) if world.is_ending() => return Some(account),
            Err(error) => {
                world.accuse(format!("no answer after a failing sample: {error}"));
                return Some(account);
            }
        };
        world.enter(&mut account, reply.id, reply.status);
        if id == 0 && reply.status == Status::Answered {
            world.accuse("a sample that the engine fails on was answered".into());
        }
    }
    Some(account)
}

/// Bytes without sense, seldom a whole number of requests; then gone, at once or after a while.
fn garbage(world: &World<'_>, random: &mut Random) {
    let Ok(mut stream) = UnixStream::connect(world.socket) else {
        return;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
    // Mostly a choice that there is, so that the rest is taken for requests.
    let choice = u32::try_from(random.below(4)).unwrap_or(0) % 3;
    let _ = stream.write_all(&choice.to_le_bytes());
    let length = random.below(4_096);
    let bytes: Vec<u8> = (0..length)
        .map(|_| random.next_bits().to_le_bytes()[0])
        .collect();
    let _ = stream.write_all(&bytes);
    if random.below(2) == 0 {
        let mut sink = [0; 1024];
        while stream.read(&mut sink).map_or_else(
            |error| error.kind() == ErrorKind::Interrupted,
            |count| count > 0,
        ) {}
    }
}
