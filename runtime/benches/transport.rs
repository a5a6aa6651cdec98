//! A request's way to the loop and back: tensors in the frames of the socket against shared memory.
//!
//! `cargo bench -p fulcrum-runtime --bench transport [SECONDS]`. The loop is played: it takes the sample out of
//! its place, as inference would, and answers at once. One client, one request at a time; samples of an image
//! of 3 x 224 x 224 values (588 KiB) that the client writes anew each time, and 1,000 values back.

use fulcrum_runtime::client::{Client, SharedClient};
use fulcrum_runtime::exchange::{Exchange, LoopSide, Status};
use fulcrum_runtime::histogram::Histogram;
use fulcrum_runtime::queue::{Receiver, Ring};
use fulcrum_runtime::serve::Clock;
use fulcrum_runtime::socket::{Server, listen};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SAMPLE: usize = 3 * 224 * 224;
const OUTPUT: usize = 1_000;

struct Still;

impl Clock for Still {
    fn now_ns(&self) -> u64 {
        0
    }
}

/// Answers everything at once.
fn play(receiver: &mut Receiver<'_>, serving: &mut LoopSide<'_>, done: &AtomicBool) {
    let (mut x, y) = (vec![0.0; SAMPLE], vec![0.5; OUTPUT]);
    while !done.load(Ordering::Relaxed) {
        match receiver.take() {
            Some(request) => {
                serving.copy_sample(request.place, &mut x);
                serving.answer(request.place, Status::Answered, &y);
                serving.wake();
            }
            None => thread::park_timeout(Duration::from_millis(10)),
        }
    }
}

fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the kernel tells");
    let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(us).unwrap_or(0))
}

fn measure(name: &str, duration: Duration, mut request: impl FnMut(u64)) {
    (0..20).for_each(&mut request);
    let times = Histogram::new();
    let (start, before) = (Instant::now(), processor_time());
    for id in 0.. {
        if start.elapsed() >= duration {
            break;
        }
        let sent = Instant::now();
        request(id);
        times.record(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    let count = times.count().max(1);
    let processor = (processor_time() - before).as_secs_f64() * 1e6 / count as f64;
    let [p50, p99] = [500_000, 990_000].map(|part| times.quantile_ns(part) / 1_000);
    println!(
        "{name:<14} {count:>6} requests, p50 {p50} us, p99 {p99} us, {processor:.0} us of processor each"
    );
}

fn with_server(path: &Path, test: impl FnOnce()) {
    let mut exchange = Exchange::new(SAMPLE, OUTPUT, 2);
    let mut ring = Ring::new();
    let (sender, mut receiver) = ring.split();
    let (wake, awake) = UnixStream::pair().expect("a pair of sockets");
    let (server_side, mut loop_side) = exchange.split(wake);
    let done = AtomicBool::new(false);
    let listener = listen(path).expect("a socket");
    thread::scope(|scope| {
        let playing = scope.spawn(|| play(&mut receiver, &mut loop_side, &done));
        let to = playing.thread().clone();
        let done = &done;
        scope.spawn(move || {
            let server = Server::new(&Still, listener, awake, server_side, sender, &to);
            server.expect("a server").run(done);
        });
        test();
        done.store(true, Ordering::Relaxed);
    });
}

fn main() {
    let seconds = std::env::args().skip(1).find_map(|text| text.parse().ok());
    let duration = Duration::from_secs_f64(seconds.unwrap_or(3.0));
    let path = std::env::temp_dir().join(format!("fulcrum-transport-{}", std::process::id()));
    with_server(&path, || {
        let mut sample = vec![0.25; SAMPLE];
        let mut client = Client::connect(&path).expect("a client");
        measure("in frames", duration, |id| {
            sample.fill(id as f32);
            client.send(id, &sample).expect("sent");
            assert_eq!(
                client.receive().expect("an answer").status,
                Status::Answered
            );
        });
        let mut client = SharedClient::connect(&path).expect("a client");
        measure("shared memory", duration, |id| {
            let bits = (id as f32).to_bits();
            client
                .sample(0)
                .iter()
                .for_each(|word| word.store(bits, Ordering::Relaxed));
            client.send(id, 0).expect("sent");
            assert_eq!(
                client.receive().expect("an answer").status,
                Status::Answered
            );
            assert_eq!(client.output(0).len(), OUTPUT);
        });
    });
    let _ = std::fs::remove_file(&path);
}
