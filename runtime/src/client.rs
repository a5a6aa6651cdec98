//! A client of the request socket, for programs in Rust; `clients/python` has the one for Python.

use crate::exchange::Status;
use crate::socket::protocol::{ANSWER_HEAD_LEN, HELLO_LEN, MAGIC, VERSION, status_of};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A connection to a `fulcrumd` that listens.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    sample_len: usize,
    output_len: usize,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The request's id.
    pub id: u64,
    /// How it ended.
    pub status: Status,
    /// From arrival to answer, in the server.
    pub latency_us: u32,
    /// The model's output; zeros unless answered.
    pub output: Vec<f32>,
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there, or it is not `fulcrumd`, or one of another version.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(path)?;
        let mut hello = [0; HELLO_LEN];
        stream.read_exact(&mut hello)?;
        let (words, _) = hello.as_chunks::<4>();
        let [magic, version, sample_len, output_len] = [0, 1, 2, 3].map(|index| words[index]);
        if magic != MAGIC {
            return Err(invalid("not a fulcrumd request socket"));
        }
        if u32::from_le_bytes(version) != VERSION {
            return Err(invalid("fulcrumd speaks another version of the protocol"));
        }
        Ok(Self {
            stream,
            sample_len: u32::from_le_bytes(sample_len) as usize,
            output_len: u32::from_le_bytes(output_len) as usize,
        })
    }

    /// Values of a sample.
    #[must_use]
    pub const fn sample_len(&self) -> usize {
        self.sample_len
    }

    /// Sends a request. Requests may be sent ahead of their answers.
    ///
    /// # Errors
    /// The sample has another length than the model's (nothing was sent), or the connection broke.
    pub fn send(&mut self, id: u64, sample: &[f32]) -> io::Result<()> {
        if sample.len() != self.sample_len {
            return Err(invalid("the sample's length is not the model's"));
        }
        let mut frame = id.to_le_bytes().to_vec();
        frame.extend(sample.iter().flat_map(|value| value.to_le_bytes()));
        self.stream.write_all(&frame)
    }

    /// Waits for the next answer, whichever request it belongs to.
    ///
    /// # Errors
    /// The connection broke.
    pub fn receive(&mut self) -> io::Result<Reply> {
        let mut frame = vec![0; ANSWER_HEAD_LEN + 4 * self.output_len];
        self.stream.read_exact(&mut frame)?;
        let (head, output) = frame.split_at(ANSWER_HEAD_LEN);
        let (words, _) = head.as_chunks::<4>();
        let word = |index: usize| u32::from_le_bytes(words[index]);
        Ok(Reply {
            id: u64::from(word(0)) | u64::from(word(1)) << 32,
            status: status_of(word(2)).ok_or_else(|| invalid("an unknown status"))?,
            latency_us: word(3),
            output: output
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect(),
        })
    }
}
