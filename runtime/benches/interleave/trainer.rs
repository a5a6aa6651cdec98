//! Whoever trains beside the loop in native sharing.

use crate::options::Options;
use crate::scaled::Scaled;
use crate::{Result, pin_to};
use fulcrum_runtime::serve::Work;
use fulcrum_runtime::telemetry::Counter;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

/// The first argument of a process that only trains.
pub(crate) const ARGUMENT: &str = "--trainer";

const GO: &str = "go";

/// Trains back to back until told to stop; returns the steps per second.
fn train_until(models: &mut Scaled<'_>, done: &AtomicBool) -> std::result::Result<f64, String> {
    let (start, mut steps) = (Instant::now(), 0);
    while !done.load(Ordering::Relaxed) {
        models.train().map_err(|error| error.to_string())?;
        steps += 1;
    }
    Ok(f64::from(steps) / start.elapsed().as_secs_f64())
}

/// Trains on a thread of its own while this one serves; the steps per second.
///
/// # Errors
/// One of both fails.
pub(crate) fn on_thread(
    models: &mut Scaled<'_>,
    serve: impl FnOnce() -> Result<()>,
) -> Result<f64> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let trainer = scope.spawn(|| train_until(models, &done));
        let served = serve();
        done.store(true, Ordering::Relaxed);
        let steps_per_s = trainer.join().map_err(|_| "the trainer panicked")??;
        served?;
        Ok(steps_per_s)
    })
}

/// A process that trains when it is told to.
pub(crate) struct Trainer {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Trainer {
    /// Starts it; its models are loaded when this returns.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn start(options: &Options, train_runs: u32) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .args(["--steps", &train_runs.to_string()])
            .args(["--cores", &options.cores.to_string()])
            .args(["--batch", &options.batch.to_string()])
            .args(["--provider", &options.provider.to_string()])
            .args([Path::new("--models"), &options.models])
            .args([Path::new("--data"), &options.data])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().ok_or("no input")?;
        let output = child.stdout.take().ok_or("no output")?;
        let mut answers = BufReader::new(output).lines();
        answers.next().ok_or("the trainer did not start")??;
        Ok(Self {
            child,
            orders,
            answers,
        })
    }

    /// Lets it train while this process serves; the steps per second.
    ///
    /// # Errors
    /// One of both fails.
    pub(crate) fn beside(&mut self, serve: impl FnOnce() -> Result<()>) -> Result<f64> {
        writeln!(self.orders, "{GO}")?;
        let served = serve();
        writeln!(self.orders, "stop")?;
        let answer = self.answers.next().ok_or("the trainer failed")??;
        served?;
        Ok(answer.parse()?)
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What that process does, until its standard input closes.
///
/// # Errors
/// Training fails.
pub(crate) fn obey(options: &Options) -> Result<()> {
    pin_to(0..options.cores)?;
    let correct = Counter::default();
    let mut models = Scaled::load(options, options.steps[0], &correct)?;
    let done = AtomicBool::new(true);
    let (begin, begun) = mpsc::channel();
    println!("ready");
    thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || {
            for line in std::io::stdin().lines().map_while(std::result::Result::ok) {
                let goes = line == GO;
                done.store(!goes, Ordering::Relaxed);
                if goes && begin.send(()).is_err() {
                    break;
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        for () in begun {
            println!("{}", train_until(&mut models, done)?);
        }
        Ok(())
    })
}
