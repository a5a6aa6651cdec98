//! The request socket: a thread that takes requests of other processes and hands them to the loop.
//!
//! It has a thread of its own and shares nothing with the loop but two rings and the tensors' places
//! ([`crate::exchange`]), so that no client can make the loop wait: a client that sends too much is
//! rejected, one that does not read its answers is disconnected. A request arrives when its last byte was
//! read.

mod bound;
mod connection;
pub mod protocol;

use crate::exchange::{Answer, ServerSide, Status};
use crate::queue::{Request, Sender};
use crate::serve::Clock;
pub use bound::{Bound, listen};
use connection::{Connection, Received, Sample};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

/// Most clients at a time; one more is turned away.
pub const CLIENTS_MAX: usize = 16;
/// Connections taken before those that are there have their turn: more may come for as long as somebody likes.
const CONNECTIONS_PER_TURN: usize = CLIENTS_MAX;
/// Requests read from one client before the next has its turn.
const REQUESTS_PER_TURN: usize = 64;
/// Longest wait: how long the server may take to notice that it is done.
const WAIT_MS: u16 = 50;

/// Who waits for the answer at a place.
#[derive(Clone, Copy)]
struct Waiting {
    client: usize,
    generation: u64,
    id: u64,
    slot: usize,
    arrival_ns: u64,
}

/// The server: connections, and the places that are free.
pub struct Server<'a, C> {
    clock: &'a C,
    listener: Bound,
    wake: UnixStream,
    exchange: ServerSide<'a>,
    requests: Sender<'a>,
    to: &'a Thread,
    clients: Vec<Option<Connection>>,
    generations: Vec<u64>,
    free: Vec<u32>,
    waiting: Vec<Option<Waiting>>,
}

impl<'a, C: Clock> Server<'a, C> {
    /// A server that listens; `wake` is the other end of what the loop writes to, and `to` the loop's
    /// thread, which is woken for every request.
    ///
    /// # Errors
    /// A socket cannot be made non-blocking.
    pub fn new(
        clock: &'a C,
        listener: Bound,
        wake: UnixStream,
        exchange: ServerSide<'a>,
        requests: Sender<'a>,
        to: &'a Thread,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let places = exchange.places();
        Ok(Self {
            clock,
            listener,
            wake,
            exchange,
            requests,
            to,
            clients: (0..CLIENTS_MAX).map(|_| None).collect(),
            generations: vec![0; CLIENTS_MAX],
            free: (0..u32::try_from(places).unwrap_or(u32::MAX)).collect(),
            waiting: vec![None; places],
        })
    }

    /// Serves until `done`.
    pub fn run(&mut self, done: &AtomicBool) {
        while !done.load(Ordering::Relaxed) {
            self.wait();
            self.accept();
            let mut drained = [0; 256];
            while self.wake.read(&mut drained).is_ok_and(|count| count > 0) {}
            self.deliver();
            for client in 0..CLIENTS_MAX {
                self.receive(client);
                self.flush(client);
            }
        }
        self.deliver();
        for client in 0..CLIENTS_MAX {
            self.flush(client);
        }
    }

    fn wait(&self) {
        let mut polled = vec![
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
        ];
        for connection in self.clients.iter().flatten() {
            let mut flags = PollFlags::POLLIN;
            flags.set(PollFlags::POLLOUT, connection.wants_to_write());
            polled.push(PollFd::new(connection.stream().as_fd(), flags));
        }
        // An interrupted wait is a short one.
        let _ = poll(&mut polled, PollTimeout::from(WAIT_MS));
    }

    fn accept(&mut self) {
        let mut looked = false;
        for _ in 0..CONNECTIONS_PER_TURN {
            let Ok((stream, _)) = self.listener.accept() else {
                return;
            };
            if !looked && self.clients.iter().all(Option::is_some) {
                // Of those that left before this one came, not all may have been noticed yet.
                (0..CLIENTS_MAX).for_each(|client| self.receive(client));
                looked = true;
            }
            let Some(client) = self.clients.iter().position(Option::is_none) else {
                continue;
            };
            let lengths = (self.exchange.sample_len(), self.exchange.output_len());
            let words = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
            let hello = protocol::hello(words(lengths.0), words(lengths.1));
            self.clients[client] = Connection::new(stream, &hello, lengths).ok();
            self.generations[client] += 1;
        }
    }

    /// Hands the loop's answers to whoever waits for them.
    fn deliver(&mut self) {
        while let Some(Answer { place, status }) = self.exchange.take() {
            let waiting = self.waiting.get_mut(place as usize).and_then(Option::take);
            let Some(waiting) = waiting else { continue };
            if self.generations[waiting.client] == waiting.generation {
                let latency_ns = self.clock.now_ns().saturating_sub(waiting.arrival_ns);
                let latency_us = u32::try_from(latency_ns / 1_000).unwrap_or(u32::MAX);
                self.answer(
                    waiting.client,
                    (waiting.id, status, latency_us),
                    Some((waiting.slot, place)),
                );
            }
            self.free.push(place);
        }
    }

    /// Answers a client; the output is at a place, and goes to a slot.
    fn answer(&mut self, client: usize, head: (u64, Status, u32), from: Option<(usize, u32)>) {
        let (slot, place) = from.unzip();
        let output = place.map_or(&[][..], |place| self.exchange.output(place));
        let slot = slot.unwrap_or_default();
        let connection = self.clients[client].as_mut();
        if connection.is_some_and(|connection| !connection.answer(head, slot, output)) {
            self.disconnect(client);
        }
    }

    fn disconnect(&mut self, client: usize) {
        self.clients[client] = None;
        // Answers under way find another generation, and only free their places.
        self.generations[client] += 1;
    }

    fn receive(&mut self, client: usize) {
        for _ in 0..REQUESTS_PER_TURN {
            let Some(connection) = &mut self.clients[client] else {
                return;
            };
            match connection.receive() {
                Received::Later => return,
                Received::Gone => return self.disconnect(client),
                Received::Request(id, slot) => self.request(client, id, slot),
            }
        }
    }

    fn request(&mut self, client: usize, id: u64, slot: usize) {
        let arrival_ns = self.clock.now_ns();
        let (Some(place), Some(connection)) = (self.free.pop(), &self.clients[client]) else {
            self.requests.reject();
            return self.answer(client, (id, Status::Rejected, 0), None);
        };
        match connection.sample(slot) {
            Sample::Frame(bytes) => {
                let (words, _) = bytes.as_chunks::<4>();
                self.exchange
                    .put(place, words.iter().map(|word| u32::from_le_bytes(*word)));
            }
            Sample::Shared(words) => {
                let words = words.iter().map(|word| word.load(Ordering::Relaxed));
                self.exchange.put(place, words.map(u32::from_le));
            }
        }
        self.waiting[place as usize] = Some(Waiting {
            client,
            generation: self.generations[client],
            id,
            slot,
            arrival_ns,
        });
        let request = Request {
            id,
            arrival_ns,
            place,
        };
        if self.requests.send(request).is_ok() {
            self.to.unpark();
        } else {
            self.waiting[place as usize] = None;
            self.free.push(place);
            self.answer(client, (id, Status::Rejected, 0), None);
        }
    }

    fn flush(&mut self, client: usize) {
        let connection = self.clients[client].as_mut();
        if connection.is_some_and(|connection| !connection.flush()) {
            self.disconnect(client);
        }
    }
}

#[cfg(test)]
mod tests;
