//! One client's connection: a request half read, answers half written, and where its tensors lie.

use super::protocol::{
    ANSWER_HEAD_LEN, CHOICE_LEN, IN_FRAMES, IN_SHARED_MEMORY, REQUEST_HEAD_LEN, SHARED_REQUEST_LEN,
    answer_head, memory,
};
use crate::exchange::Status;
use crate::shared_memory::{Layout, SharedMemory, send_with_file};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};

/// Answers that wait for a client to read them; a client that lets more wait is disconnected.
const ANSWERS_MAX: usize = 2048;

/// Where a client's tensors lie.
enum Tensors {
    /// It has not said.
    Unknown,
    /// Behind the heads of requests and answers.
    InFrames,
    /// In memory that it shares with the server.
    Shared(SharedMemory),
}

/// A connection.
pub(super) struct Connection {
    stream: UnixStream,
    lengths: (usize, usize),
    tensors: Tensors,
    input: Vec<u8>,
    filled: usize,
    wanted: usize,
    output: Vec<u8>,
    answer_len: usize,
}

/// What reading gave.
pub(super) enum Received {
    /// A request's id, and its slot; the sample is in [`Connection::sample`].
    Request(u64, usize),
    /// Nothing more for now.
    Later,
    /// The client is gone, or does not keep to the protocol.
    Gone,
}

/// The sample of a request.
pub(super) enum Sample<'a> {
    /// Little-endian floats.
    Frame(&'a [u8]),
    /// The same as words that the client may be changing: to be read once.
    Shared(&'a [AtomicU32]),
}

impl Connection {
    pub(super) fn new(
        stream: UnixStream,
        hello: &[u8],
        lengths: (usize, usize),
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            lengths,
            tensors: Tensors::Unknown,
            input: vec![0; (REQUEST_HEAD_LEN + 4 * lengths.0).max(SHARED_REQUEST_LEN)],
            filled: 0,
            wanted: CHOICE_LEN,
            output: hello.to_vec(),
            answer_len: ANSWER_HEAD_LEN,
        })
    }

    pub(super) const fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Reads up to one whole request.
    pub(super) fn receive(&mut self) -> Received {
        loop {
            while self.filled < self.wanted {
                match self.stream.read(&mut self.input[self.filled..self.wanted]) {
                    Ok(0) => return Received::Gone,
                    Ok(count) => self.filled += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Received::Later,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return Received::Gone,
                }
            }
            self.filled = 0;
            let word = |at: usize| {
                let bytes = self.input[at..].first_chunk().copied().unwrap_or_default();
                u32::from_le_bytes(bytes)
            };
            let id = u64::from(word(0)) | u64::from(word(4)) << 32;
            match &self.tensors {
                Tensors::InFrames => return Received::Request(id, 0),
                Tensors::Shared(memory) => {
                    let slot = word(8) as usize;
                    if slot >= memory.layout().slots || word(12) != 0 {
                        return Received::Gone;
                    }
                    return Received::Request(id, slot);
                }
                Tensors::Unknown => {
                    if !self.choose(word(0)) {
                        return Received::Gone;
                    }
                }
            }
        }
    }

    /// The client chose where its tensors lie. False if that cannot be.
    fn choose(&mut self, choice: u32) -> bool {
        let (sample_len, output_len) = self.lengths;
        match choice {
            IN_FRAMES => {
                self.tensors = Tensors::InFrames;
                self.wanted = REQUEST_HEAD_LEN + 4 * sample_len;
                self.answer_len = ANSWER_HEAD_LEN + 4 * output_len;
                true
            }
            IN_SHARED_MEMORY => {
                let layout = Layout::of(sample_len, output_len);
                let Some(Ok((shared, file))) = layout.map(SharedMemory::create) else {
                    return false;
                };
                let told = memory(&shared.layout());
                // The hello comes first: the kernel has room for both, or the client asks for trouble.
                let sent = self.flush()
                    && self.output.is_empty()
                    && send_with_file(&self.stream, &told, &file).is_ok();
                self.tensors = Tensors::Shared(shared);
                self.wanted = SHARED_REQUEST_LEN;
                sent
            }
            _ => false,
        }
    }

    /// The sample of the request that was received last, in this slot.
    pub(super) fn sample(&self, slot: usize) -> Sample<'_> {
        match &self.tensors {
            Tensors::Shared(memory) => Sample::Shared(memory.sample(slot)),
            _ => {
                Sample::Frame(&self.input[REQUEST_HEAD_LEN..REQUEST_HEAD_LEN + 4 * self.lengths.0])
            }
        }
    }

    /// Adds an answer with the output of a request in this slot; zeros, or nothing in shared memory, unless it
    /// was answered. False if too many answers wait already.
    pub(super) fn answer(
        &mut self,
        (id, status, latency_us): (u64, Status, u32),
        slot: usize,
        words: &[AtomicU32],
    ) -> bool {
        if self.output.len() >= ANSWERS_MAX * self.answer_len {
            return false;
        }
        let end = self.output.len() + self.answer_len;
        self.output.extend(answer_head(id, status, latency_us));
        if status == Status::Answered {
            let words = words
                .iter()
                .map(|word| word.load(Ordering::Relaxed).to_le());
            match &self.tensors {
                Tensors::Shared(memory) => {
                    for (to, word) in memory.output(slot).iter().zip(words) {
                        to.store(word, Ordering::Relaxed);
                    }
                }
                _ => self.output.extend(words.flat_map(u32::to_ne_bytes)),
            }
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
