//! A `fulcrumd run` under way: what it says, line by line, and how it ends. A test waits for what it wants to see
//! instead of for a time in which that ought to happen: a busy machine may stand still for seconds.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// For what takes a second or two on a machine that is not busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A `fulcrumd run --json` that has started; killed if the test fails before it ended.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let all = BufReader::new(stream).lines().map_while(Result::ok);
        all.for_each(|line| drop(sender.send(line)));
    });
    lines
}

impl Running {
    /// Starts it, and waits until its mode is set.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = lines(child.stdout.take().expect("its output"));
        let stderr = lines(child.stderr.take().expect("its errors"));
        match stdout.recv_timeout(PATIENCE) {
            Ok(first) => assert!(first.contains("\"started\""), "{first}"),
            Err(_) => panic!("it did not start: {:?}", stderr.iter().collect::<Vec<_>>()),
        }
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// Waits for a progress report, of which there is one a second, such as a test wants it.
    ///
    /// # Panics
    /// None comes.
    pub fn reports(&self, wanted: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut last = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.stdout.recv_timeout(left) {
                Ok(line) => last = line,
                Err(_) => panic!("not reported; last: {last}"),
            }
            let report: Value = serde_json::from_str(&last).expect("JSON");
            if report["event"] == "progress" && wanted(&report) {
                return;
            }
        }
    }

    /// Waits for a line on standard error.
    ///
    /// # Panics
    /// It does not come.
    pub fn says(&self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut said = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.stderr.recv_timeout(left) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => said += &line,
                Err(_) => panic!("not said: {words}; but: {said}"),
            }
        }
    }

    /// What it says on standard error until `pause` has passed.
    #[must_use]
    pub fn said_within(&self, pause: Duration) -> Vec<String> {
        std::thread::sleep(pause);
        self.stderr.try_iter().collect()
    }

    /// Ends it with SIGTERM; its summary.
    ///
    /// # Panics
    /// It does not end well.
    #[must_use]
    pub fn end(mut self) -> Value {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-s", "TERM", &pid]).status();
        assert!(told.expect("kill").success());
        let status = self.child.wait().expect("its end");
        assert_eq!(status.code(), Some(0));
        let last = self.stdout.iter().last().expect("a summary");
        serde_json::from_str(&last).expect("JSON")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
