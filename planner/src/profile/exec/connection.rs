//! A running command and the frames to and from it.

use super::{Notice, OnNotice};
use fulcrum_plan::link::{FRAME_LEN_MAX, FrameError, Receiver, Request, Response, encode};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver as Inbox, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// For a command whose input has ended: a board puts its clocks back now.
const END_WAIT: Duration = Duration::from_secs(10);
/// For a command that was told to end.
const KILL_WAIT: Duration = Duration::from_secs(1);
/// For the last words of a command whose output ended, and for its end.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(1);

/// Why a connection is of no use any more.
#[derive(Debug)]
pub(super) struct Lost(pub(super) String);

impl Lost {
    pub(super) fn closed() -> Self {
        Self("the connection is closed".to_owned())
    }
}

enum Event {
    Response(Box<Response>),
    OtherVersion(FrameError),
    Said(String),
    OutputEnded,
}

/// A command under way. Dropping it ends its input, waits for it to end, and makes it end if need be.
pub(super) struct Connection {
    child: Child,
    stdin: Option<ChildStdin>,
    events: Inbox<Event>,
    last_said: String,
    hangs: bool,
}

impl Connection {
    /// Starts `command` in a process group of its own: Ctrl-C at the workstation must not reach the
    /// board's process, which ends in good order when its input does.
    pub(super) fn start(command: &str) -> Result<Self, Lost> {
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| Lost(format!("sh cannot be started: {error}")))?;
        let (sender, events) = mpsc::channel();
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            let lines = sender.clone();
            thread::spawn(move || read_frames(stdout, &sender));
            thread::spawn(move || read_lines(stderr, &lines));
        }
        Ok(Self {
            stdin: child.stdin.take(),
            child,
            events,
            last_said: String::new(),
            hangs: false,
        })
    }

    pub(super) fn send(&mut self, request: &Request) -> Result<(), Lost> {
        let mut buffer = [0; FRAME_LEN_MAX];
        let frame = encode(request, &mut buffer).map_err(|error| Lost(error.to_string()))?;
        let stdin = self.stdin.as_mut().ok_or_else(Lost::closed)?;
        let written = stdin.write_all(frame).and_then(|()| stdin.flush());
        written.map_err(|_| self.ended(&mut |_| {}))
    }

    /// The next response; what the command says meanwhile is passed on.
    pub(super) fn receive(
        &mut self,
        deadline: Instant,
        on_notice: &mut OnNotice,
    ) -> Result<Response, Lost> {
        loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(wait) {
                Ok(Event::Response(response)) => return Ok(*response),
                Ok(Event::OtherVersion(error)) => return Err(Lost(error.to_string())),
                Ok(Event::Said(line)) => self.said(line, on_notice),
                Ok(Event::OutputEnded) | Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.ended(on_notice));
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.hangs = true;
                    return Err(Lost(self.with_last_words("no answer in time".to_owned())));
                }
            }
        }
    }

    fn said(&mut self, line: String, on_notice: &mut dyn FnMut(Notice<'_>)) {
        on_notice(Notice::Said(&line));
        self.last_said = line;
    }

    /// The command's output has ended: what it said, and how it ended.
    fn ended(&mut self, on_notice: &mut dyn FnMut(Notice<'_>)) -> Lost {
        let deadline = Instant::now() + LAST_WORDS_WAIT;
        loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(wait) {
                Ok(Event::Said(line)) => self.said(line, on_notice),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        // The kernel closes a process's outputs a moment before it tells how it ended.
        self.wait(deadline.saturating_duration_since(Instant::now()));
        let how = match self.child.try_wait() {
            Ok(Some(status)) => format!("it ended ({status})"),
            _ => "its output ended".to_owned(),
        };
        Lost(self.with_last_words(how))
    }

    fn with_last_words(&self, reason: String) -> String {
        match self.last_said.is_empty() {
            true => reason,
            false => format!("{reason}: {}", self.last_said),
        }
    }

    fn wait(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
                Ok(None) => return false,
                _ => return true,
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let patience = if self.hangs { KILL_WAIT } else { END_WAIT };
        if self.wait(patience) {
            return;
        }
        // A process id is positive and fits, and the group is there as long as its leader is not reaped.
        let group = Pid::from_raw(self.child.id().cast_signed());
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            let _ = killpg(group, signal);
            if self.wait(KILL_WAIT) {
                return;
            }
        }
    }
}

fn read_frames(mut stdout: ChildStdout, events: &Sender<Event>) {
    let mut receiver = Receiver::<Response>::default();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stdout.read(&mut buffer) {
        for byte in &buffer[..length] {
            let event = match receiver.push(*byte) {
                Some(Ok(response)) => Event::Response(Box::new(response)),
                Some(Err(error @ FrameError::Version(_))) => Event::OtherVersion(error),
                // A login banner, a damaged frame: its profile is asked for again in time.
                Some(Err(_)) | None => continue,
            };
            if events.send(event).is_err() {
                return;
            }
        }
    }
    let _ = events.send(Event::OutputEnded);
}

fn read_lines(stderr: ChildStderr, events: &Sender<Event>) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while let Ok(1..) = stderr.read_until(b'\n', &mut line) {
        let said = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if !said.is_empty() && events.send(Event::Said(said)).is_err() {
            return;
        }
    }
}
