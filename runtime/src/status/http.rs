//! Just enough HTTP/1.0 to hand out pages: `GET`, one answer, and the connection is closed (RFC 1945).
//!
//! Connections are served one after the other, each for at most a fraction of a second: whoever connects and
//! says nothing delays other readers, and nobody else.

use crate::socket::{Bound, listen};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, str};

/// Longest request that is read.
const REQUEST_BYTES_MAX: usize = 2048;
/// Longest page that a client reads.
const PAGE_BYTES_MAX: u64 = 1 << 20;
/// Longest time for a connection, so that whoever sends a byte now and then holds up nobody for longer either.
const CONNECTION_MAX: Duration = Duration::from_millis(200);
/// Longest wait of a client for each part of an answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Connections that a client tries until one is answered: on a machine that stands still the time of the first may be over
/// before it has asked.
const TRIES: usize = 3;
/// Longest wait for a connection: how long the server may take to notice that it is done.
const WAIT_MS: u16 = 100;

/// Where pages are handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket: who may read is decided by its folder's permissions.
    Path(PathBuf),
    /// A port of this machine; every user of the machine may read.
    Port(SocketAddr),
}

impl Address {
    /// A path has a slash; anything else is an address of this machine with a port, such as
    /// `127.0.0.1:9464`. `None` for an address that other machines reach.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        if text.contains('/') {
            return Some(Self::Path(text.into()));
        }
        let address: SocketAddr = text.parse().ok()?;
        address.ip().is_loopback().then_some(Self::Port(address))
    }

    /// Listens there. A socket that nobody listens at any more is replaced.
    ///
    /// # Errors
    /// It is in use or cannot be created.
    pub fn listen(&self) -> io::Result<Listener> {
        match self {
            Self::Path(path) => listen(path).map(Listener::Unix),
            Self::Port(address) => TcpListener::bind(address).map(Listener::Tcp),
        }
    }

    /// Fetches a page, such as `/status`.
    ///
    /// # Errors
    /// Nobody listens there, or it is no server of pages, or it has no such page.
    pub fn fetch(&self, page: &str) -> io::Result<String> {
        let ask = || match self {
            Self::Path(path) => ask(UnixStream::connect(path)?, page),
            Self::Port(address) => ask(TcpStream::connect(address)?, page),
        };
        let is_closed = |answer: &io::Result<String>| match answer {
            Ok(answer) => answer.is_empty(),
            Err(error) => {
                [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&error.kind())
            }
        };
        let mut answer = ask();
        for _ in 1..TRIES {
            if !is_closed(&answer) {
                break;
            }
            answer = ask();
        }
        read(&answer?, page)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Port(address) => address.fmt(f),
        }
    }
}

/// What accepts connections.
#[derive(Debug)]
pub enum Listener {
    /// At a path.
    Unix(Bound),
    /// At a port.
    Tcp(TcpListener),
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its media type.
    pub content_type: &'static str,
    /// Its text.
    pub text: String,
}

/// A stream whose waits can be limited.
trait Limited: Read + Write {
    fn limit(&self, time: Duration) -> io::Result<()>;
}

impl Limited for UnixStream {
    fn limit(&self, time: Duration) -> io::Result<()> {
        self.set_nonblocking(false)?;
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

impl Limited for TcpStream {
    fn limit(&self, time: Duration) -> io::Result<()> {
        self.set_nonblocking(false)?;
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

impl Listener {
    /// Hands out pages until `done`: `page` makes the page of a path, if there is one.
    ///
    /// # Errors
    /// The listener cannot be made non-blocking.
    pub fn serve(
        &self,
        done: &AtomicBool,
        mut page: impl FnMut(&str) -> Option<Page>,
    ) -> io::Result<()> {
        match self {
            Self::Unix(listener) => listener.set_nonblocking(true)?,
            Self::Tcp(listener) => listener.set_nonblocking(true)?,
        }
        while !done.load(Ordering::Relaxed) {
            let fd = match self {
                Self::Unix(listener) => listener.as_fd(),
                Self::Tcp(listener) => listener.as_fd(),
            };
            // An interrupted wait is a short one.
            let _ = poll(
                &mut [PollFd::new(fd, PollFlags::POLLIN)],
                PollTimeout::from(WAIT_MS),
            );
            // A reader that goes away in the middle is its own business.
            let _ = match self {
                Self::Unix(listener) => listener.accept().and_then(|(s, _)| answer(s, &mut page)),
                Self::Tcp(listener) => listener.accept().and_then(|(s, _)| answer(s, &mut page)),
            };
        }
        Ok(())
    }
}

fn answer(mut stream: impl Limited, page: &mut impl FnMut(&str) -> Option<Page>) -> io::Result<()> {
    let deadline = Instant::now() + CONNECTION_MAX;
    let mut request = [0; REQUEST_BYTES_MAX];
    let mut length = 0;
    // All of it, so that closing the connection does not reset it under the answer.
    while !request[..length].windows(4).any(|end| end == b"\r\n\r\n") && length < request.len() {
        // Of a deadline that has passed nothing is left, which is refused as a limit.
        stream.limit(deadline.saturating_duration_since(Instant::now()))?;
        match stream.read(&mut request[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            // So a wait that is limited ends when the process was stopped for a moment (signal(7)).
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let line = request[..length].split(|byte| *byte == b'\r').next();
    let line = line
        .and_then(|line| str::from_utf8(line).ok())
        .unwrap_or_default();
    let mut words = line.split(' ');
    let plain = |text: &str| Page {
        content_type: "text/plain; charset=utf-8",
        text: text.to_owned(),
    };
    let (status, page) = match (words.next(), words.next()) {
        (Some("GET"), Some(path)) => match page(path) {
            Some(page) => ("200 OK", page),
            None => ("404 Not Found", plain("pages: /status /json /metrics\n")),
        },
        _ => ("400 Bad Request", plain("only GET is understood\n")),
    };
    let head = format!(
        "HTTP/1.0 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        page.content_type,
        page.text.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(page.text.as_bytes())
}

fn ask(mut stream: impl Limited, page: &str) -> io::Result<String> {
    stream.limit(ANSWER_MAX)?;
    stream.write_all(format!("GET {page} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(PAGE_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

/// The page in an answer.
fn read(answer: &str, page: &str) -> io::Result<String> {
    let invalid = |reason: String| io::Error::new(ErrorKind::InvalidData, reason);
    let (head, text) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| invalid("no answer of a status socket".into()))?;
    let status = head.lines().next().unwrap_or_default();
    if !status.contains(" 200 ") {
        return Err(invalid(format!("{page}: {status}")));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a request byte by byte, each after a wait that was interrupted.
    struct Interrupting {
        request: &'static [u8],
        interrupts: bool,
        answer: Vec<u8>,
    }

    impl Read for Interrupting {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.interrupts = !self.interrupts;
            match self.interrupts {
                true => Err(ErrorKind::Interrupted.into()),
                false => self.request.read(&mut buffer[..1]),
            }
        }
    }

    impl Write for Interrupting {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.answer.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Limited for &mut Interrupting {
        fn limit(&self, _: Duration) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_wait_that_is_interrupted_goes_on() {
        let mut stream = Interrupting {
            request: b"GET /page HTTP/1.0\r\n\r\n",
            interrupts: false,
            answer: Vec::new(),
        };
        answer(&mut stream, &mut |path| {
            let text = path.to_owned();
            Some(Page {
                content_type: "text/plain",
                text,
            })
        })
        .unwrap();
        assert!(stream.answer.ends_with(b"\r\n\r\n/page"));
    }
}
