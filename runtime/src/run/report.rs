//! What a run says on standard output: JSON lines, or text for people.
//!
//! What the plan promises for its board and what was measured on this machine are kept apart.

use super::outcome::Outcome;
use super::prepare::Prepared;
use super::watcher::Seen;
use crate::args::Run;
use fulcrum_plan::PowerMode;
use fulcrum_plan::select::Solution;
use fulcrum_plan::units::MilliRps;
use fulcrum_runtime::json::Object;
use fulcrum_runtime::queue::Counts;
use fulcrum_runtime::telemetry::Telemetry;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

/// Quantiles of the summary: name, parts of a million.
const QUANTILES: [(&str, u32); 3] = [("p50", 500_000), ("p99", 990_000), ("p999", 999_000)];

/// The engine, for people.
struct Engine {
    path: String,
    version: String,
    provider: String,
}

/// Says what happens.
pub(crate) struct Report {
    json: bool,
    terminal: bool,
    board: String,
    solution: Solution,
    rate: MilliRps,
    budget_us: Option<u32>,
    library: Option<Engine>,
}

/// What the end of a run says.
pub(crate) struct Summary<'a> {
    pub(crate) telemetry: &'a Telemetry,
    pub(crate) correct: u64,
    pub(crate) outcome: &'a Outcome,
    /// Training steps, those of earlier runs included.
    pub(crate) steps_total: Option<u64>,
    /// Trained weights that were checked before they served.
    pub(crate) checks: Option<Checks>,
    pub(crate) accuracy_before: Option<f64>,
    pub(crate) accuracy_after: Option<f64>,
    pub(crate) restored: bool,
}

/// What became of trained weights.
pub(crate) struct Checks {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    /// Name and value of how good those that serve are.
    pub(crate) score: (&'static str, f64),
}

impl Summary<'_> {
    fn train_per_s(&self) -> Option<f64> {
        let seconds = self.outcome.elapsed.as_secs_f64();
        let steps = self.telemetry.steps.get();
        (steps > 0 && seconds > 0.0).then(|| count(steps) / seconds)
    }

    /// Share of the time that went into training steps.
    fn train_share(&self) -> Option<f64> {
        let elapsed_ns = self.outcome.elapsed.as_secs_f64() * 1e9;
        let train = &self.telemetry.train;
        (train.count() > 0 && elapsed_ns > 0.0).then(|| count(train.sum_ns()) / elapsed_ns)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "for display: 53 bits are plenty"
)]
fn count(value: u64) -> f64 {
    value as f64
}

fn mode_object(mode: &PowerMode) -> Object {
    Object::new()
        .integer("cores", mode.cores)
        .integer("cpu_khz", mode.cpu_khz.0)
        .integer("gpu_khz", mode.gpu_khz.0)
        .integer("emc_khz", mode.emc_khz.0)
}

impl Report {
    pub(crate) fn new(options: &Run, prepared: &Prepared<'_>) -> Self {
        Self {
            json: options.json,
            terminal: std::io::stderr().is_terminal(),
            board: prepared.plan.board.as_str().to_owned(),
            solution: prepared.solution,
            rate: options.service.map_or(MilliRps(0), |service| service.rate),
            budget_us: options.service.map(|service| service.latency_us.0),
            library: prepared.library.as_ref().map(|(library, provider)| Engine {
                path: library.path.display().to_string(),
                version: library.version.to_string(),
                provider: provider.to_string(),
            }),
        }
    }

    /// A line or more on standard output. A reader that went away is no reason to stop the work.
    fn say(&self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    }

    /// What the plan promises, as the fields of an object.
    fn promised(&self, object: Object) -> Object {
        let (serving, background) = (self.solution.serving, self.solution.background);
        object
            .integer("power_mw", self.solution.power_mw.0)
            .optional_integer("batch", serving.map(|s| s.batch.into()))
            .optional_integer("infer_us", serving.map(|s| s.time_us.0.into()))
            .optional_integer("train_us", background.map(|b| b.time_us.0.into()))
            .optional_integer("k", serving.and(background).map(|b| b.steps))
            .optional_integer("latency_us", serving.map(|s| s.latency_us))
            .optional_number(
                "train_per_s",
                self.solution.background_per_second(self.rate),
            )
    }

    /// The loop is about to begin.
    pub(crate) fn started(&self) {
        let mode = self.solution.mode;
        if !self.json {
            let mut text = format!("board      {}\nmode       {mode}\n", self.board);
            let _ = write!(text, "{}", self.promise_text());
            if let Some(Engine {
                path,
                version,
                provider,
            }) = &self.library
            {
                let _ = write!(
                    text,
                    "\nlibrary    ONNX Runtime {version} on {provider}, {path}"
                );
            }
            return self.say(&text);
        }
        let object = Object::event("started")
            .text("board", &self.board)
            .object("mode", &mode_object(&mode))
            .text("side", "plan");
        let mut object = self
            .promised(object)
            .optional_integer("latency_budget_us", self.budget_us.map(u64::from));
        if let Some(engine) = &self.library {
            let library = Object::new()
                .text("path", &engine.path)
                .text("version", &engine.version)
                .text("provider", &engine.provider);
            object = object.object("onnxruntime", &library);
        }
        self.say(&object.to_string());
    }

    fn promise_text(&self) -> String {
        let mut text = format!("plan       at most {}", self.solution.power_mw);
        if let Some(serving) = self.solution.serving {
            let _ = write!(
                text,
                ", batches of {} in {}, peak latency {} us",
                serving.batch, serving.time_us, serving.latency_us
            );
        }
        if let Some(background) = self.solution.background {
            let _ = write!(text, ", training step in {}", background.time_us);
        }
        if let Some(rate) = self.solution.background_per_second(self.rate) {
            let _ = write!(text, ", {rate:.2} steps/s");
        }
        text
    }

    /// A second passed.
    pub(crate) fn progress(&self, elapsed: Duration, telemetry: &Telemetry, counts: Counts<'_>) {
        let loss = telemetry.loss_last.get().map(f64::from);
        let (served, late) = (telemetry.served.get(), telemetry.late.get());
        let (rejected, steps) = (counts.rejected(), telemetry.steps.get());
        if self.json {
            let object = Object::event("progress")
                .number("elapsed_s", elapsed.as_secs_f64())
                .integer("served", served)
                .integer("late", late)
                .integer("rejected", rejected)
                .integer("steps", steps)
                .optional_number("loss", loss);
            self.say(&object.to_string());
        } else if self.terminal {
            let seconds = elapsed.as_secs();
            let loss = loss.map_or_else(String::new, |loss| format!(", loss {loss:.4}"));
            // Overwrites itself; the spaces clear what was longer before.
            let line = format!(
                "\r{seconds} s: {served} served, {late} late, {rejected} rejected, {steps} steps{loss}   "
            );
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
        }
    }

    /// The run is over.
    pub(crate) fn summary(&self, summary: &Summary<'_>) {
        if self.json {
            self.say(&self.summary_object(summary).to_string());
        } else {
            if self.terminal {
                let _ = std::io::stderr().lock().write_all(b"\r\x1b[K");
            }
            self.say(&self.summary_text(summary));
        }
    }

    fn summary_object(&self, summary: &Summary<'_>) -> Object {
        let telemetry = summary.telemetry;
        let outcome = summary.outcome;
        let mut latency = Object::new();
        for (name, millionths) in QUANTILES {
            latency = latency.number(
                name,
                microseconds(telemetry.latency.quantile_ns(millionths)),
            );
        }
        latency = latency.number("max", microseconds(telemetry.latency.max_ns()));
        let per_window = telemetry.steps_per_window_milli();
        let object = Object::event("summary")
            .text("board", &self.board)
            .object("mode", &mode_object(&self.solution.mode))
            .text("side", "measured")
            .number("elapsed_s", outcome.elapsed.as_secs_f64())
            .integer("arrived", outcome.arrived)
            .integer("served", telemetry.served.get())
            .integer("late", telemetry.late.get())
            .integer("rejected", outcome.rejected)
            .integer("dropped", telemetry.dropped.get())
            .integer("failed", telemetry.failed.get())
            .integer("waiting", outcome.waiting)
            .integer("batches", telemetry.batches.get())
            .integer("bulk_arrived", outcome.bulk_arrived)
            .integer("bulk_served", telemetry.bulk_served.get())
            .integer("bulk_rejected", outcome.bulk_rejected)
            .integer("bulk_failed", telemetry.bulk_failed.get())
            .integer("bulk_waiting", outcome.bulk_waiting)
            .integer("switches", telemetry.switches.get())
            .object("latency_us", &latency)
            .optional_integer("latency_budget_us", self.budget_us.map(u64::from))
            .optional_number("infer_us", median_us(&telemetry.infer))
            .optional_number("train_us", median_us(&telemetry.train))
            .integer("steps", telemetry.steps.get())
            .integer("steps_lost", telemetry.steps_lost.get())
            .optional_integer("steps_total", summary.steps_total)
            .integer("checkpoints", outcome.checkpoints)
            .optional_number(
                "steps_per_window",
                per_window.map(|milli| count(milli) / 1e3),
            )
            .optional_number("train_per_s", summary.train_per_s())
            .optional_number("train_share", summary.train_share())
            .optional_number("loss_first", telemetry.loss_first.get().map(f64::from))
            .optional_number("loss_last", telemetry.loss_last.get().map(f64::from))
            .optional_number("accuracy_before", summary.accuracy_before)
            .optional_number("accuracy_after", summary.accuracy_after)
            .integer("served_correct", summary.correct)
            .integer("allocations_in_loop", outcome.allocations.allocations)
            .integer("frees_in_loop", outcome.allocations.frees)
            .optional_integer("page_faults", outcome.page_faults)
            .integer("over_current_events", outcome.seen.over_current_events)
            .integer("heat_events", outcome.seen.heat_events)
            .integer("drifts", outcome.seen.drifts)
            .boolean("restored", summary.restored)
            .object("promised", &self.promised(Object::new()));
        match &summary.checks {
            Some(checks) => object
                .integer("swaps_accepted", checks.accepted)
                .integer("swaps_refused", checks.refused)
                .number(checks.score.0, checks.score.1),
            None => object,
        }
    }

    fn summary_text(&self, summary: &Summary<'_>) -> String {
        let (telemetry, outcome) = (summary.telemetry, summary.outcome);
        let mut text = format!(
            "ran        {:.1} s; clocks restored: {}",
            outcome.elapsed.as_secs_f64(),
            if summary.restored { "yes" } else { "NO" }
        );
        let seen = &outcome.seen;
        if *seen != Seen::default() {
            let _ = write!(
                text,
                "\nboard      {} over-current events, hot {} times, other clocks at {} looks",
                seen.over_current_events, seen.heat_events, seen.drifts
            );
        }
        if telemetry.batches.get() > 0 {
            let _ = write!(
                text,
                "\nserved     {} requests in {} batches, {} late, {} rejected, {} dropped, {} failed\nlatency   ",
                telemetry.served.get(),
                telemetry.batches.get(),
                telemetry.late.get(),
                outcome.rejected,
                telemetry.dropped.get(),
                telemetry.failed.get()
            );
            for (name, millionths) in QUANTILES {
                let quantile_us = microseconds(telemetry.latency.quantile_ns(millionths));
                let _ = write!(text, " {name} {quantile_us:.0} us,");
            }
            let max_us = microseconds(telemetry.latency.max_ns());
            let budget_us = self.budget_us.unwrap_or(0);
            let _ = write!(text, " max {max_us:.0} us; budget {budget_us} us");
        }
        if telemetry.bulk_served.get() > 0 {
            let _ = write!(
                text,
                "\nnot urgent {} requests in {} batches, {} rejected, {} failed",
                telemetry.bulk_served.get(),
                telemetry.bulk_batches.get(),
                outcome.bulk_rejected,
                telemetry.bulk_failed.get()
            );
        }
        if let Some(train_per_s) = summary.train_per_s() {
            let loss = |loss: Option<f32>| loss.map_or_else(|| "-".into(), |x| format!("{x:.4}"));
            let _ = write!(
                text,
                "\ntrained    {} steps, {train_per_s:.1}/s, {:.0} % of the time, loss {} -> {}",
                telemetry.steps.get(),
                100.0 * summary.train_share().unwrap_or(0.0),
                loss(telemetry.loss_first.get()),
                loss(telemetry.loss_last.get())
            );
        }
        if let (Some(before), Some(after)) = (summary.accuracy_before, summary.accuracy_after) {
            let _ = write!(text, "\naccuracy   {before:.4} -> {after:.4} (held out)");
        }
        if let Some(checks) = &summary.checks {
            let (name, value) = checks.score;
            let _ = write!(
                text,
                "\nchecked    {} sets of weights went to work, {} were worse; {name} {value:.4}",
                checks.accepted, checks.refused
            );
        }
        let _ = write!(
            text,
            "\nloop       {} Rust allocations, {} frees",
            outcome.allocations.allocations, outcome.allocations.frees
        );
        text
    }
}

fn microseconds(ns: u64) -> f64 {
    count(ns) / 1e3
}

fn median_us(histogram: &fulcrum_runtime::histogram::Histogram) -> Option<f64> {
    (histogram.count() > 0).then(|| microseconds(histogram.quantile_ns(500_000)))
}
