//! Real sockets in a folder of their own; the loop is played by the test.

use super::*;
use crate::client::{Client, SharedClient};
use crate::exchange::{Exchange, LoopSide};
use crate::queue::{Admission, Receiver, Ring};
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;

struct Still;

impl Clock for Still {
    fn now_ns(&self) -> u64 {
        5_000
    }
}

/// A path for a socket, removed at the end.
struct Socket(PathBuf);

impl Socket {
    fn new(name: &str) -> Self {
        let name = format!("fulcrum-socket-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Hands the test a server for samples of 2 and outputs of 1.
fn with_server_at_rest(
    name: &str,
    test: impl FnOnce(&Path, Server<'_, Still>, &mut Receiver<'_>, &mut LoopSide<'_>),
) {
    let socket = Socket::new(name);
    let mut exchange = Exchange::new(2, 1, 1);
    let mut ring = Ring::new();
    let (sender, mut receiver) = ring.split();
    let (wake, awake) = UnixStream::pair().unwrap();
    let (server_side, mut loop_side) = exchange.split(wake);
    let to = thread::current();
    let listener = listen(&socket.0).unwrap();
    let server = Server::new(&Still, listener, awake, server_side, sender, &to).unwrap();
    test(&socket.0, server, &mut receiver, &mut loop_side);
}

/// Runs that server, and beside it the test, which plays the loop.
fn with_server(name: &str, test: impl FnOnce(&Path, &mut Receiver<'_>, &mut LoopSide<'_>)) {
    with_server_at_rest(name, |path, mut server, receiver, loop_side| {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| server.run(&done));
            test(path, receiver, loop_side);
            done.store(true, Ordering::Relaxed);
        });
    });
}

fn next(receiver: &mut Receiver<'_>) -> Request {
    loop {
        match receiver.take() {
            Some(request) => return request,
            None => thread::park_timeout(std::time::Duration::from_millis(1)),
        }
    }
}

#[test]
fn an_answer_goes_to_the_client_that_asked_with_its_id() {
    with_server("answer", |path, receiver, serving| {
        let mut clients = [(); 2].map(|()| Client::connect(path).unwrap());
        assert_eq!(clients[0].sample_len(), 2);
        for (client, sample) in clients.iter_mut().zip([[1.0, 2.0], [3.0, 4.0]]) {
            client.send(sample[0] as u64, &sample).unwrap();
        }
        for _ in 0..2 {
            let request = next(receiver);
            let mut x = [0.0; 2];
            serving.copy_sample(request.place, &mut x);
            serving.answer(request.place, Status::Answered, &[x[0] * 10.0 + x[1]]);
            serving.wake();
        }
        for (client, (id, output)) in clients.iter_mut().zip([(1, 12.0), (3, 34.0)]) {
            let reply = client.receive().unwrap();
            assert_eq!((reply.id, reply.status), (id, Status::Answered));
            assert_eq!(reply.output, [output]);
        }
    });
}

#[test]
fn what_is_not_admitted_is_answered_at_once() {
    with_server("reject", |path, receiver, serving| {
        receiver.admit(Admission::at_most(1));
        let mut client = Client::connect(path).unwrap();
        for id in 0..3 {
            client.send(id, &[0.0; 2]).unwrap();
        }
        for id in [1, 2] {
            let reply = client.receive().unwrap();
            assert_eq!((reply.id, reply.status), (id, Status::Rejected));
        }
        let request = next(receiver);
        serving.answer(request.place, Status::Dropped, &[]);
        serving.wake();
        let reply = client.receive().unwrap();
        assert_eq!((reply.id, reply.status), (0, Status::Dropped));
        assert_eq!(reply.output, [0.0]);
        assert_eq!(receiver.counts().rejected(), 2);
    });
}

#[test]
fn a_client_that_leaves_takes_no_place_with_it() {
    with_server("leave", |path, receiver, serving| {
        for round in 0..3_000 {
            let mut client = Client::connect(path).unwrap();
            client.send(round, &[0.0; 2]).unwrap();
            let request = next(receiver);
            drop(client);
            serving.answer(request.place, Status::Answered, &[1.0]);
            serving.wake();
        }
    });
}

#[test]
fn a_client_finds_the_place_of_one_that_left_before_it_came() {
    with_server_at_rest("place", |path, mut server, _, _| {
        let connect = |_| UnixStream::connect(path).unwrap();
        let mut clients: Vec<_> = (0..CLIENTS_MAX).map(connect).collect();
        server.accept();
        let refused = connect(0);
        server.accept();
        clients.pop();
        let admitted = connect(0);
        server.accept();
        (0..CLIENTS_MAX).for_each(|client| server.flush(client));
        let mut hello = [0; protocol::HELLO_LEN];
        assert_eq!((&refused).read(&mut hello).unwrap(), 0);
        assert_eq!((&admitted).read(&mut hello).unwrap(), hello.len());
    });
}

#[test]
fn a_sample_of_another_length_is_refused_before_it_is_sent() {
    with_server("length", |path, _, _| {
        let mut client = Client::connect(path).unwrap();
        assert!(client.send(1, &[0.0; 3]).is_err());
    });
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let socket = Socket::new("stale");
    drop(UnixListener::bind(&socket.0).unwrap());
    let live = listen(&socket.0).unwrap();
    assert!(listen(&socket.0).is_err());
    drop(live);
    assert!(!socket.0.exists(), "its path goes with it");
    std::fs::write(&socket.0, "not a socket").unwrap();
    assert!(listen(&socket.0).is_err());
    assert_eq!(std::fs::read_to_string(&socket.0).unwrap(), "not a socket");
}

#[test]
fn connections_that_do_not_end_hold_up_nobody() {
    with_server_at_rest("crowd", |path, mut server, _, _| {
        let connect = |()| UnixStream::connect(path).unwrap();
        let crowd = [(); CONNECTIONS_PER_TURN + 1].map(connect);
        server.accept();
        let mut last = crowd.last().unwrap();
        last.set_nonblocking(true).unwrap();
        let unanswered = last.read(&mut [0; 1]).unwrap_err();
        assert_eq!(
            unanswered.kind(),
            io::ErrorKind::WouldBlock,
            "its turn comes"
        );
        server.accept();
        assert_eq!(last.read(&mut [0; 1]).unwrap(), 0, "turned away");
    });
}

/// Fills a slot.
fn fill(client: &SharedClient, slot: usize, sample: [f32; 2]) {
    for (word, value) in client.sample(slot).iter().zip(sample) {
        word.store(value.to_bits().to_le(), Ordering::Relaxed);
    }
}

#[test]
fn shared_memory_carries_samples_and_outputs_of_both_kinds_of_client_side_by_side() {
    with_server("shared", |path, receiver, serving| {
        let mut shared = [(); 2].map(|()| SharedClient::connect(path).unwrap());
        let mut plain = Client::connect(path).unwrap();
        assert_eq!((shared[0].slots(), shared[0].sample_len()), (64, 2));
        for (id, client) in (0_u8..).zip(&mut shared) {
            for slot in [0, 63] {
                fill(client, slot, [f32::from(id) + 1.0, slot as f32]);
                client.send(slot as u64, slot as u32).unwrap();
            }
        }
        plain.send(7, &[9.0, 9.0]).unwrap();
        for _ in 0..5 {
            let request = next(receiver);
            let mut x = [0.0; 2];
            serving.copy_sample(request.place, &mut x);
            serving.answer(request.place, Status::Answered, &[x[0] * 100.0 + x[1]]);
            serving.wake();
        }
        for (id, client) in (0_u8..).zip(&mut shared) {
            for _ in 0..2 {
                let reply = client.receive().unwrap();
                assert_eq!(reply.status, Status::Answered);
                let expected = f32::from(id + 1) * 100.0 + reply.id as f32;
                assert_eq!(client.output(reply.id as usize), [expected]);
            }
        }
        assert_eq!(plain.receive().unwrap().output, [909.0]);
    });
}

#[test]
fn clients_that_do_not_keep_to_the_protocol_are_disconnected_and_harm_nobody() {
    with_server("hostile", |path, receiver, serving| {
        let mut good = SharedClient::connect(path).unwrap();
        // A slot that is not there; one that is, with something behind it; a choice that is not there.
        let request = |slot: u32, zero: u32| {
            let words = [1_u32, 0, 0, slot, zero];
            words.map(u32::to_le_bytes).concat()
        };
        for bytes in [
            request(64, 0),
            request(u32::MAX, 0),
            request(0, 1),
            vec![7, 0, 0, 0],
        ] {
            let mut stream = UnixStream::connect(path).unwrap();
            stream.write_all(&bytes).unwrap();
            let mut rest = Vec::new();
            // Reset, or the end.
            let _ = stream.read_to_end(&mut rest);
            assert!(rest.len() <= 16 + 12, "{rest:?}");
        }
        // A client that writes into the slot while it is served changes its own sample only, and one that
        // is gone takes its memory along.
        let mut leaving = SharedClient::connect(path).unwrap();
        fill(&leaving, 1, [1.0, 1.0]);
        leaving.send(1, 1).unwrap();
        let late = next(receiver);
        fill(&leaving, 1, [f32::NAN, f32::NAN]);
        let mut x = [0.0; 2];
        serving.copy_sample(late.place, &mut x);
        assert_eq!(x, [1.0, 1.0], "what was sent");
        drop(leaving);
        serving.answer(late.place, Status::Answered, &[1.0]);
        serving.wake();
        fill(&good, 2, [3.0, 4.0]);
        good.send(5, 2).unwrap();
        let request = next(receiver);
        serving.answer(request.place, Status::Answered, &[12.0]);
        serving.wake();
        assert_eq!(good.receive().unwrap().id, 5);
        assert_eq!(good.output(2), [12.0]);
    });
}
