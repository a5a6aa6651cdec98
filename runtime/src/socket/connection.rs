//! One client's connection: a request half read, answers half written.

use super::protocol::{ANSWER_HEAD_LEN, REQUEST_HEAD_LEN, answer_head};
use crate::exchange::Status;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

/// Answers that wait for a client to read them; a client that lets more wait is disconnected.
const ANSWERS_MAX: usize = 2048;

/// A connection.
pub(super) struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
    answer_len: usize,
}

/// What reading gave.
pub(super) enum Received {
    /// A request's id; its sample is in [`Connection::sample`].
    Request(u64),
    /// Nothing more for now.
    Later,
    /// The client is gone.
    Gone,
}

impl Connection {
    pub(super) fn new(
        stream: UnixStream,
        hello: &[u8],
        (sample_len, output_len): (usize, usize),
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            input: vec![0; REQUEST_HEAD_LEN + 4 * sample_len],
            filled: 0,
            output: hello.to_vec(),
            answer_len: ANSWER_HEAD_LEN + 4 * output_len,
        })
    }

    pub(super) const fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Reads up to one whole request.
    pub(super) fn receive(&mut self) -> Received {
        while self.filled < self.input.len() {
            match self.stream.read(&mut self.input[self.filled..]) {
                Ok(0) => return Received::Gone,
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Received::Later,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Received::Gone,
            }
        }
        self.filled = 0;
        let id = self.input.first_chunk().copied().unwrap_or_default();
        Received::Request(u64::from_le_bytes(id))
    }

    /// The sample of the request that was received last, as little-endian floats.
    pub(super) fn sample(&self) -> &[u8] {
        &self.input[REQUEST_HEAD_LEN..]
    }

    /// Adds an answer, whose output `append` appends. False if too many wait already.
    pub(super) fn answer(
        &mut self,
        (id, status, latency_us): (u64, Status, u32),
        append: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        if self.output.len() >= ANSWERS_MAX * self.answer_len {
            return false;
        }
        let end = self.output.len() + self.answer_len;
        self.output.extend(answer_head(id, status, latency_us));
        if status == Status::Answered {
            append(&mut self.output);
        }
        self.output.resize(end, 0);
        true
    }

    pub(super) fn wants_to_write(&self) -> bool {
        !self.output.is_empty()
    }

    /// Writes what the client takes. False if it is gone.
    pub(super) fn flush(&mut self) -> bool {
        let mut written = 0;
        let alive = loop {
            if written == self.output.len() {
                break true;
            }
            match self.stream.write(&self.output[written..]) {
                Ok(0) => break false,
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
        };
        self.output.drain(..written);
        alive
    }
}
