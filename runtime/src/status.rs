//! What a run tells whoever asks: people, scripts and Prometheus.
//!
//! A thread of its own reads what the loop publishes ([`crate::telemetry`], all of it atomics) and answers at
//! a Unix socket or a port of this machine ([`http`]). The loop neither waits for it nor knows of it.
//!
//! | page | what |
//! |---|---|
//! | `/status` | text for people |
//! | `/json` | the same as one JSON object |
//! | `/metrics` | Prometheus text format 0.0.4 ([`prometheus`]) |

pub mod http;
pub mod prometheus;

use crate::histogram::Histogram;
use crate::json::Object;
use crate::telemetry::Telemetry;
use fulcrum_plan::PowerMode;
use fulcrum_plan::units::{MicroSec, MilliWatt};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Where the package's service answers.
pub const DEFAULT_PATH: &str = "/run/fulcrum/status";
/// Events that are remembered.
const EVENTS_MAX: usize = 16;
/// Quantiles that people are told: name, parts of a million.
const QUANTILES: [(&str, u32); 4] = [
    ("p50", 500_000),
    ("p90", 900_000),
    ("p99", 990_000),
    ("p999", 999_000),
];

/// The last things that happened, for any thread but the loop's.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<Event>>);

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, since the start of the run.
    pub at: Duration,
    /// What.
    pub text: String,
}

impl Recent {
    /// Remembers an event, and forgets the oldest when there are too many.
    pub fn push(&self, at: Duration, text: String) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(Event { at, text });
    }

    /// A copy, the oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().cloned().collect()
    }
}

/// A run at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot<'a> {
    /// The board's name.
    pub board: &'a str,
    /// The mode that is set.
    pub mode: PowerMode,
    /// Since the start of the run.
    pub uptime: Duration,
    /// The power budget.
    pub power_budget_mw: MilliWatt,
    /// What the board draws, if its sensors can be read.
    pub power_mw: Option<MilliWatt>,
    /// The latency budget, if requests are served.
    pub latency_budget_us: Option<MicroSec>,
    /// Requests that came.
    pub arrived: u64,
    /// Requests that were not admitted.
    pub rejected: u64,
    /// The same of requests that are not urgent, if there are any.
    pub bulk_rejected: Option<u64>,
    /// What the loop counts.
    pub telemetry: &'a Telemetry,
    /// Requests that arrived and training steps done per second, lately.
    pub per_second: Option<[f64; 2]>,
    /// What happened, the oldest first.
    pub events: Vec<Event>,
}

fn microseconds(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64() * 1e6
}

impl Snapshot<'_> {
    /// The page for people.
    #[must_use]
    pub fn text(&self) -> String {
        let telemetry = self.telemetry;
        let mut text = format!(
            "board      {}, fulcrumd {}, up {} s\nmode       {}\npower      ",
            self.board,
            env!("CARGO_PKG_VERSION"),
            self.uptime.as_secs(),
            self.mode
        );
        let watts = |power_mw: MilliWatt| f64::from(power_mw.0) / 1e3;
        let _ = match self.power_mw {
            Some(power_mw) => write!(text, "{:.1} W", watts(power_mw)),
            None => write!(text, "unknown"),
        };
        let _ = writeln!(text, "; budget {:.1} W", watts(self.power_budget_mw));
        let rate = |index: usize| {
            let rates = self.per_second.as_ref().and_then(|rates| rates.get(index));
            rates.map_or_else(String::new, |rate| format!(", {rate:.1}/s"))
        };
        if let Some(budget) = self.latency_budget_us {
            let _ = writeln!(
                text,
                "requests   {} arrived{}: {} served ({} late), {} rejected, {} dropped, {} failed",
                self.arrived,
                rate(0),
                telemetry.served.get(),
                telemetry.late.get(),
                self.rejected,
                telemetry.dropped.get(),
                telemetry.failed.get()
            );
            text.push_str("latency   ");
            for (name, millionths) in QUANTILES {
                let quantile_us = microseconds(telemetry.latency.quantile_ns(millionths));
                let _ = write!(text, " {name} {:.2} ms,", quantile_us / 1e3);
            }
            let max_ms = microseconds(telemetry.latency.max_ns()) / 1e3;
            let budget_ms = f64::from(budget.0) / 1e3;
            let _ = writeln!(text, " max {max_ms:.2} ms; budget {budget_ms} ms");
        }
        if let Some(rejected) = self.bulk_rejected {
            let _ = writeln!(
                text,
                "not urgent {} served, {rejected} rejected, {} failed",
                telemetry.bulk_served.get(),
                telemetry.bulk_failed.get()
            );
        }
        if telemetry.steps.get() + telemetry.steps_lost.get() > 0 {
            let _ = write!(
                text,
                "training   {} steps{}, {} lost",
                telemetry.steps.get(),
                rate(1),
                telemetry.steps_lost.get()
            );
            let _ = match telemetry.loss_last.get() {
                Some(loss) => writeln!(text, ", loss {loss:.4}"),
                None => writeln!(text),
            };
        }
        for Event { at, text: what } in &self.events {
            let _ = writeln!(text, "{:>6} s   {what}", at.as_secs());
        }
        text
    }

    /// The page for scripts.
    #[must_use]
    pub fn object(&self) -> Object {
        let telemetry = self.telemetry;
        let spread = |histogram: &Histogram| {
            let mut object = Object::new().integer("count", histogram.count());
            for (name, millionths) in QUANTILES {
                object = object.number(name, microseconds(histogram.quantile_ns(millionths)));
            }
            object.number("max", microseconds(histogram.max_ns()))
        };
        let mode = Object::new()
            .integer("cores", self.mode.cores)
            .integer("cpu_khz", self.mode.cpu_khz.0)
            .integer("gpu_khz", self.mode.gpu_khz.0)
            .integer("emc_khz", self.mode.emc_khz.0);
        let event = |event: &Event| {
            let object = Object::new().number("at_s", event.at.as_secs_f64());
            object.text("text", &event.text)
        };
        Object::event("status")
            .text("board", self.board)
            .text("version", env!("CARGO_PKG_VERSION"))
            .number("uptime_s", self.uptime.as_secs_f64())
            .object("mode", &mode)
            .integer("power_budget_mw", self.power_budget_mw.0)
            .optional_integer("power_mw", self.power_mw.map(|power| power.0.into()))
            .optional_integer(
                "latency_budget_us",
                self.latency_budget_us.map(|us| us.0.into()),
            )
            .integer("arrived", self.arrived)
            .integer("served", telemetry.served.get())
            .integer("late", telemetry.late.get())
            .integer("rejected", self.rejected)
            .integer("dropped", telemetry.dropped.get())
            .integer("failed", telemetry.failed.get())
            .integer("batches", telemetry.batches.get())
            .integer("bulk_served", telemetry.bulk_served.get())
            .optional_integer("bulk_rejected", self.bulk_rejected)
            .integer("bulk_failed", telemetry.bulk_failed.get())
            .integer("switches", telemetry.switches.get())
            .object("latency_us", &spread(&telemetry.latency))
            .object("infer_us", &spread(&telemetry.infer))
            .object("train_us", &spread(&telemetry.train))
            .integer("steps", telemetry.steps.get())
            .integer("steps_lost", telemetry.steps_lost.get())
            .optional_number("loss", telemetry.loss_last.get().map(f64::from))
            .optional_number("arrived_per_s", self.per_second.map(|rates| rates[0]))
            .optional_number("steps_per_s", self.per_second.map(|rates| rates[1]))
            .objects("events", self.events.iter().map(event))
    }
}

#[cfg(test)]
mod tests;
