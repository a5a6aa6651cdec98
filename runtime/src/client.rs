//! A client of the request socket, for programs in Rust; `clients/python` has the one for Python.

mod shared;

pub use shared::{SharedClient, SharedReply};

use crate::exchange::Status;
use crate::socket::CLIENTS_MAX;
use crate::socket::protocol::{ANSWER_HEAD_LEN, HELLO_LEN, IN_FRAMES, MAGIC, VERSION, status_of};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A connection to a `fulcrumd` that listens.
#[derive(Debug)]
pub struct Client {
    requests: Requests,
    replies: Replies,
}

/// The half of a connection that sends.
#[derive(Debug)]
pub struct Requests {
    stream: UnixStream,
    sample_len: usize,
    frame: Vec<u8>,
}

/// The half of a connection that receives.
#[derive(Debug)]
pub struct Replies {
    stream: UnixStream,
    frame: Vec<u8>,
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

/// Reads the server's hello: values per sample and per output.
fn greet(stream: &mut UnixStream) -> io::Result<(usize, usize)> {
    let mut hello = [0; HELLO_LEN];
    stream
        .read_exact(&mut hello)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => io::Error::new(
                error.kind(),
                format!(
                    "the connection was closed at once: {CLIENTS_MAX} clients have one already, fulcrumd stops, or \
                     this is no request socket"
                ),
            ),
            _ => error,
        })?;
    let (words, _) = hello.as_chunks::<4>();
    let [magic, version, sample_len, output_len] = [0, 1, 2, 3].map(|index| words[index]);
    if magic != MAGIC {
        return Err(invalid("not a fulcrumd request socket"));
    }
    if u32::from_le_bytes(version) != VERSION {
        return Err(invalid("fulcrumd speaks another version of the protocol"));
    }
    let length = |word| u32::from_le_bytes(word) as usize;
    Ok((length(sample_len), length(output_len)))
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there, or it is not `fulcrumd`, or one of another version, or too many are connected.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(path)?;
        let (sample_len, output_len) = greet(&mut stream)?;
        stream.write_all(&IN_FRAMES.to_le_bytes())?;
        Ok(Self {
            requests: Requests {
                stream: stream.try_clone()?,
                sample_len,
                frame: Vec::new(),
            },
            replies: Replies {
                stream,
                frame: vec![0; ANSWER_HEAD_LEN + 4 * output_len],
            },
        })
    }

    /// Values of a sample.
    #[must_use]
    pub const fn sample_len(&self) -> usize {
        self.requests.sample_len()
    }

    /// Two halves, for two threads.
    #[must_use]
    pub fn split(self) -> (Requests, Replies) {
        (self.requests, self.replies)
    }

    /// As [`Requests::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send(&mut self, id: u64, sample: &[f32]) -> io::Result<()> {
        self.requests.send(id, sample)
    }

    /// As [`Replies::receive`].
    ///
    /// # Errors
    /// As there.
    pub fn receive(&mut self) -> io::Result<Reply> {
        self.replies.receive()
    }
}

impl Requests {
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
        self.frame.clear();
        self.frame.extend(id.to_le_bytes());
        let values = sample.iter().flat_map(|value| value.to_le_bytes());
        self.frame.extend(values);
        self.stream.write_all(&self.frame)
    }
}

impl Replies {
    /// Lets [`Replies::receive`] wait at most this long; `None`: for ever. A reply that is late is an error of
    /// the connection, which is of no use afterwards.
    ///
    /// # Errors
    /// The time is zero.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(timeout)
    }

    /// Closes the connection, for the half that sends, too.
    pub fn close(&self) {
        // It is closed already where this fails.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Waits for the next answer, whichever request it belongs to.
    ///
    /// # Errors
    /// The connection broke, or the time is over.
    pub fn receive(&mut self) -> io::Result<Reply> {
        self.stream.read_exact(&mut self.frame)?;
        let (head, output) = self.frame.split_at(ANSWER_HEAD_LEN);
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
