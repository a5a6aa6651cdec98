//! `fulcrumd load`: sends requests to a `fulcrumd` that listens, and says what became of them.

use crate::args::{Load, Times};
use crate::{Failure, print};
use fulcrum_runtime::arrivals::Arrivals;
use fulcrum_runtime::client::Client;
use fulcrum_runtime::data::Records;
use fulcrum_runtime::histogram::Histogram;
use fulcrum_runtime::json::Object;
use fulcrum_runtime::load::{self, Outcome, trace};
use fulcrum_runtime::signal;
use std::fmt::Write as _;
use std::time::Duration;

/// Quantiles that are told: name at the end, name in JSON, parts of a million.
const QUANTILES: [(&str, &str, u32); 4] = [
    ("p50", "p50", 500_000),
    ("p90", "p90", 900_000),
    ("p99", "p99", 990_000),
    ("p99.9", "p999", 999_000),
];

/// Runs the load to its end or until a signal.
///
/// # Errors
/// Nobody listens, a file cannot be used, or the connection broke; what became of the requests is said first.
pub(crate) fn load(options: &Load) -> Result<(), Failure> {
    let stop = signal::install().map_err(Failure::trouble)?;
    let of = |path: &std::path::Path, error: &dyn std::fmt::Display| {
        Failure::trouble(format!("{}: {error}", path.display()))
    };
    let times: Box<dyn Iterator<Item = u64> + Send> = match &options.times {
        // The rate is above zero: there are arrivals.
        Times::Drawn(process, rate) => Box::new(
            Arrivals::new(*process, *rate, options.seed, 0)
                .into_iter()
                .flatten(),
        ),
        Times::Trace(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| of(path, &error))?;
            Box::new(
                trace::read(&text)
                    .map_err(|error| of(path, &error))?
                    .into_iter(),
            )
        }
    };
    let records = options.data.as_deref().map(Records::open).transpose();
    let client = Client::connect(&options.to).map_err(|error| {
        let help = "a running `fulcrumd run --listen SOCKET` listens there";
        of(&options.to, &format!("{error}; {help}"))
    })?;
    let load = load::Load {
        times,
        duration: options.duration,
        budget: options
            .budget_us
            .map(|budget| Duration::from_micros(budget.0.into())),
        seed: options.seed,
        records: records.map_err(Failure::trouble)?,
    };
    let outcome = load.run(client, stop).map_err(Failure::trouble)?;
    match options.json {
        true => print(&format!("{}\n", object(options, &outcome)))?,
        false => print(&text(options, &outcome))?,
    }
    match &outcome.broken {
        Some(reason) => Err(of(&options.to, reason)),
        None => Ok(()),
    }
}

fn quantile_us(histogram: &Histogram, millionths: u32) -> f64 {
    Duration::from_nanos(histogram.quantile_ns(millionths)).as_secs_f64() * 1e6
}

fn object(options: &Load, outcome: &Outcome) -> Object {
    let spread = |histogram: &Histogram| {
        let mut object = Object::new();
        for (_, name, millionths) in QUANTILES {
            object = object.number(name, quantile_us(histogram, millionths));
        }
        object.number("max", quantile_us(histogram, 1_000_000))
    };
    Object::event("load")
        .integer("seed", options.seed)
        .number("elapsed_s", outcome.elapsed.as_secs_f64())
        .integer("sent", outcome.sent)
        .integer("answered", outcome.answered)
        .integer("late", outcome.late)
        .integer("rejected", outcome.rejected)
        .integer("dropped", outcome.dropped)
        .integer("failed", outcome.failed)
        .integer("lost", outcome.lost)
        .object("latency_us", &spread(&outcome.latency))
        .optional_integer("latency_budget_us", options.budget_us.map(|us| us.0.into()))
        .object("sender_lag_us", &spread(&outcome.lag))
}

fn text(options: &Load, outcome: &Outcome) -> String {
    let mut text = format!(
        "sent       {} requests in {:.1} s, seed {}: {} answered, {} rejected, {} dropped, {} failed, {} lost\n\
         latency   ",
        outcome.sent,
        outcome.elapsed.as_secs_f64(),
        options.seed,
        outcome.answered,
        outcome.rejected,
        outcome.dropped,
        outcome.failed,
        outcome.lost
    );
    let milliseconds = |histogram, millionths| quantile_us(histogram, millionths) / 1e3;
    for (name, _, millionths) in QUANTILES {
        let quantile_ms = milliseconds(&outcome.latency, millionths);
        let _ = write!(text, " {name} {quantile_ms:.2} ms,");
    }
    let max_ms = milliseconds(&outcome.latency, 1_000_000);
    let _ = write!(text, " max {max_ms:.2} ms, from when a request was due");
    if let Some(budget) = options.budget_us {
        let budget_ms = f64::from(budget.0) / 1e3;
        let _ = write!(text, "; {} later than {budget_ms} ms", outcome.late);
    }
    let lag = [990_000, 1_000_000].map(|millionths| milliseconds(&outcome.lag, millionths));
    let _ = writeln!(
        text,
        "\nsender     behind by p99 {:.2} ms, max {:.2} ms",
        lag[0], lag[1]
    );
    text
}
