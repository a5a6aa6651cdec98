//! A client whose tensors lie in memory that it shares with the server: nothing is sent but numbers of slots.

use super::{greet, invalid};
use crate::exchange::Status;
use crate::shared_memory::{Layout, SharedMemory, receive_with_file};
use crate::socket::protocol::{
    ANSWER_HEAD_LEN, IN_SHARED_MEMORY, MEMORY_LEN, SHARED_REQUEST_LEN, status_of,
};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// A connection to a `fulcrumd` that listens.
#[derive(Debug)]
pub struct SharedClient {
    stream: UnixStream,
    memory: SharedMemory,
}

/// How a request ended. Its output is in its slot, if it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedReply {
    /// The request's id.
    pub id: u64,
    /// How it ended.
    pub status: Status,
    /// From arrival to answer, in the server.
    pub latency_us: u32,
}

impl SharedClient {
    /// Connects, and maps the server's memory.
    ///
    /// # Errors
    /// As [`super::Client::connect`], or the memory cannot be mapped.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(path)?;
        let lengths = greet(&mut stream)?;
        stream.write_all(&IN_SHARED_MEMORY.to_le_bytes())?;
        let mut told = [0; MEMORY_LEN];
        let file = receive_with_file(&stream, &mut told)?;
        let (words, _) = told.as_chunks::<4>();
        let [slots, slot_len, output_at] =
            [0, 1, 2].map(|index| u32::from_le_bytes(words[index]) as usize);
        let layout = Layout::told(slots, slot_len, output_at, lengths);
        let layout = layout.ok_or_else(|| invalid("shared memory that cannot be"))?;
        Ok(Self {
            stream,
            memory: SharedMemory::open(file, layout)?,
        })
    }

    /// Slots, numbered from 0. A slot belongs to one request from `send` to its answer.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.memory.layout().slots
    }

    /// Values of a sample.
    #[must_use]
    pub const fn sample_len(&self) -> usize {
        self.memory.layout().sample_len
    }

    /// The words of a slot's sample, little-endian floats, to be filled in place.
    ///
    /// # Panics
    /// There is no such slot.
    #[must_use]
    pub fn sample(&self, slot: usize) -> &[AtomicU32] {
        self.memory.sample(slot)
    }

    /// Sends the sample in a slot. Requests may be sent ahead of their answers.
    ///
    /// # Errors
    /// The connection broke.
    pub fn send(&mut self, id: u64, slot: u32) -> io::Result<()> {
        let mut frame = [0; SHARED_REQUEST_LEN];
        frame[..8].copy_from_slice(&id.to_le_bytes());
        frame[8..12].copy_from_slice(&slot.to_le_bytes());
        self.stream.write_all(&frame)
    }

    /// Waits for the next answer, whichever request it belongs to.
    ///
    /// # Errors
    /// The connection broke.
    pub fn receive(&mut self) -> io::Result<SharedReply> {
        let mut frame = [0; ANSWER_HEAD_LEN];
        self.stream.read_exact(&mut frame)?;
        let (words, _) = frame.as_chunks::<4>();
        let word = |index: usize| u32::from_le_bytes(words[index]);
        Ok(SharedReply {
            id: u64::from(word(0)) | u64::from(word(1)) << 32,
            status: status_of(word(2)).ok_or_else(|| invalid("an unknown status"))?,
            latency_us: word(3),
        })
    }

    /// The output in a slot whose request was answered.
    ///
    /// # Panics
    /// There is no such slot.
    #[must_use]
    pub fn output(&self, slot: usize) -> Vec<f32> {
        let words = self.memory.output(slot).iter();
        words
            .map(|word| f32::from_bits(u32::from_le(word.load(Ordering::Relaxed))))
            .collect()
    }
}
