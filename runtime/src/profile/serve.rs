//! The conversation with the planner over a pair of byte streams (`docs/link.md`).
//!
//! One request at a time, in one thread. Between minibatches, and while it waits, the service looks
//! whether the planner is still there: at the end of input, at a signal, and when nothing is asked for
//! a long time, it returns, and its caller puts the clocks back.

use fulcrum_plan::link::{
    FRAME_LEN_MAX, FrameError, Hello, Measured, No, Order, Progress, Reason, Receiver, Request,
    Response, encode, text,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;
use std::fmt;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A signal that arrives just before the wait begins is seen after this.
const SLICE_MS: u16 = 250;

/// Why there is no measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is no such profile: asking again gives the same answer.
    Refused(Reason, String),
    /// It went wrong: asking again may go well.
    Failed(Reason, String),
    /// Nobody waits for it any more.
    Abandoned,
}

impl Trouble {
    /// [`Trouble::Refused`] in words.
    pub fn refused(reason: Reason, words: impl fmt::Display) -> Self {
        Self::Refused(reason, words.to_string())
    }

    /// [`Trouble::Failed`] in words.
    pub fn failed(reason: Reason, words: impl fmt::Display) -> Self {
        Self::Failed(reason, words.to_string())
    }
}

/// Passes progress on; tells to stop when nobody waits any more.
pub type Report<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// What measures.
pub trait Profiler {
    /// Which board this is, and what can be measured on it.
    fn hello(&self) -> Hello;

    /// Measures once.
    ///
    /// # Errors
    /// [`Trouble`]; `Abandoned` if and only if `report` said so.
    fn profile(&mut self, order: &Order, report: &mut Report<'_>) -> Result<Measured, Trouble>;
}

/// Why a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The planner has no more requests, or the link is lost.
    Input,
    /// A signal.
    Signal,
    /// Nothing was asked for too long.
    Idle,
}

/// Answers requests until the conversation ends. A signal sets `stop`.
///
/// # Errors
/// Input cannot be read, or output not written for another reason than that nobody reads it.
pub fn serve(
    input: impl AsFd,
    output: impl Write,
    profiler: &mut impl Profiler,
    stop: &AtomicBool,
    idle_max: Duration,
) -> io::Result<End> {
    let mut line = Line {
        input,
        output,
        stop,
        receiver: Receiver::default(),
        pending: None,
        ended: None,
        failure: None,
    };
    loop {
        let request = line.next_request(idle_max);
        let response = match request {
            Some(Request::Hello) => Response::Hello(profiler.hello()),
            Some(Request::Profile(order)) => {
                let measured = profiler.profile(&order, &mut |progress| {
                    line.send(&Response::Progress(progress));
                    line.listen(Duration::ZERO);
                    match line.ended {
                        Some(_) => ControlFlow::Break(()),
                        None => ControlFlow::Continue(()),
                    }
                });
                match answer(order.number, measured) {
                    Some(response) => response,
                    None => continue,
                }
            }
            None => {
                return match line.failure {
                    Some(error) => Err(error),
                    None => Ok(line.ended.unwrap_or(End::Input)),
                };
            }
        };
        line.send(&response);
    }
}

fn answer(number: u32, outcome: Result<Measured, Trouble>) -> Option<Response> {
    let no = |reason, words| No {
        number,
        reason,
        text: text(words),
    };
    Some(match outcome {
        Ok(measured) => Response::Measured(measured),
        Err(Trouble::Refused(reason, words)) => Response::Refused(no(reason, words)),
        Err(Trouble::Failed(reason, words)) => Response::Failed(no(reason, words)),
        Err(Trouble::Abandoned) => return None,
    })
}

/// Both directions, and how they ended.
struct Line<'a, I, O> {
    input: I,
    output: O,
    stop: &'a AtomicBool,
    receiver: Receiver<Request>,
    /// At most one: the planner asks for one thing at a time.
    pending: Option<Request>,
    ended: Option<End>,
    failure: Option<io::Error>,
}

impl<I: AsFd, O: Write> Line<'_, I, O> {
    /// Waits for a request; `None` when the conversation has ended.
    fn next_request(&mut self, idle_max: Duration) -> Option<Request> {
        let deadline = Instant::now() + idle_max;
        loop {
            if self.ended.is_some() {
                return None;
            }
            if let Some(request) = self.pending.take() {
                return Some(request);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.listen(left);
            // A request that came in time counts, also if this process did not get to read it until now.
            if left.is_zero() && self.pending.is_none() {
                self.ended.get_or_insert(End::Idle);
            }
        }
    }

    /// Reads what there is, and waits for it at most `patience` or a slice of it.
    fn listen(&mut self, patience: Duration) {
        if self.stop.load(Ordering::Relaxed) {
            self.ended = Some(End::Signal);
            return;
        }
        let wait = u16::try_from(patience.as_millis()).unwrap_or(SLICE_MS);
        let mut fds = [PollFd::new(self.input.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(wait.min(SLICE_MS))) {
            Ok(0) | Err(Errno::EINTR) => return,
            Ok(_) => {}
            Err(errno) => return self.fail(errno.into()),
        }
        let mut buffer = [0; 1024];
        match read(self.input.as_fd(), &mut buffer) {
            Ok(0) => self.ended = Some(End::Input),
            Ok(length) => {
                for byte in buffer.iter().take(length) {
                    match self.receiver.push(*byte) {
                        Some(Ok(request)) => self.pending = Some(request),
                        Some(Err(error @ FrameError::Version(_))) => {
                            log::error!("{error}");
                            // So that the planner learns of it: the frame bears our version.
                            self.send(&Request::Hello);
                        }
                        Some(Err(error)) => log::warn!("standard input: {error}"),
                        None => {}
                    }
                }
            }
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => self.fail(errno.into()),
        }
    }

    fn send(&mut self, message: &impl serde::Serialize) {
        let mut buffer = [0; FRAME_LEN_MAX];
        let written = match encode(message, &mut buffer) {
            Ok(frame) => self
                .output
                .write_all(frame)
                .and_then(|()| self.output.flush()),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.ended = Some(End::Input);
            }
            Err(error) => self.fail(error),
            Ok(()) => {}
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.ended = Some(End::Input);
        self.failure.get_or_insert(error);
    }
}

#[cfg(test)]
mod tests;
