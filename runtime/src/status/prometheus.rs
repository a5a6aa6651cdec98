//! A snapshot in Prometheus' text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).

use super::Snapshot;
use crate::histogram::Histogram;
use std::fmt::{self, Display, Write as _};
use std::time::Duration;

/// The format's media type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the histograms' buckets, as text in seconds and in ns.
const BOUNDS: [(&str, u64); 14] = [
    ("0.0001", 100_000),
    ("0.0005", 500_000),
    ("0.001", 1_000_000),
    ("0.002", 2_000_000),
    ("0.005", 5_000_000),
    ("0.01", 10_000_000),
    ("0.02", 20_000_000),
    ("0.05", 50_000_000),
    ("0.1", 100_000_000),
    ("0.2", 200_000_000),
    ("0.5", 500_000_000),
    ("1", 1_000_000_000),
    ("2", 2_000_000_000),
    ("5", 5_000_000_000),
];

/// A label's value with what the format wants escaped.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// The page under construction. Writing to a string does not fail.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{}\"", Escaped(text));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{after} {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        let (counts, count) = histogram.counts_up_to(BOUNDS.map(|(_, bound_ns)| bound_ns));
        for ((bound, _), count) in BOUNDS.iter().zip(counts) {
            self.sample(&bucket, &[("le", bound)], count);
        }
        self.sample(&bucket, &[("le", "+Inf")], count);
        let sum_s = Duration::from_nanos(histogram.sum_ns()).as_secs_f64();
        self.sample(&format!("{name}_sum"), &[], sum_s);
        self.sample(&format!("{name}_count"), &[], count);
    }
}

/// The page.
#[must_use]
pub fn page(snapshot: &Snapshot<'_>) -> String {
    let mut page = Page(String::new());
    let telemetry = snapshot.telemetry;
    let info = [
        ("board", snapshot.board),
        ("version", env!("CARGO_PKG_VERSION")),
    ];
    page.family("fulcrum_info", "gauge", "What runs where; always 1.");
    page.sample("fulcrum_info", &info, 1);
    let uptime_s = snapshot.uptime.as_secs_f64();
    page.single(
        "fulcrum_uptime_seconds",
        "gauge",
        "Time since the run began.",
        uptime_s,
    );
    page.single(
        "fulcrum_requests_arrived_total",
        "counter",
        "Requests that came, admitted or not.",
        snapshot.arrived,
    );
    page.family(
        "fulcrum_requests_total",
        "counter",
        "Requests by how they ended.",
    );
    for (outcome, count) in [
        ("served", telemetry.served.get()),
        ("rejected", snapshot.rejected),
        ("dropped", telemetry.dropped.get()),
        ("failed", telemetry.failed.get()),
    ] {
        page.sample("fulcrum_requests_total", &[("outcome", outcome)], count);
    }
    if let Some(rejected) = snapshot.bulk_rejected {
        let name = "fulcrum_bulk_requests_total";
        let help = "Requests that are not urgent, by how they ended.";
        page.family(name, "counter", help);
        for (outcome, count) in [
            ("served", telemetry.bulk_served.get()),
            ("rejected", rejected),
            ("failed", telemetry.bulk_failed.get()),
        ] {
            page.sample(name, &[("outcome", outcome)], count);
        }
    }
    for (name, help, count) in [
        (
            "fulcrum_requests_late_total",
            "Requests served later than their budget.",
            &telemetry.late,
        ),
        (
            "fulcrum_batches_total",
            "Inference batches.",
            &telemetry.batches,
        ),
        (
            "fulcrum_training_steps_total",
            "Training steps done.",
            &telemetry.steps,
        ),
        (
            "fulcrum_training_steps_lost_total",
            "Training steps that were cancelled or failed.",
            &telemetry.steps_lost,
        ),
        (
            "fulcrum_mode_changes_total",
            "Changes of mode or batch.",
            &telemetry.switches,
        ),
    ] {
        page.single(name, "counter", help, count.get());
    }
    if let Some(loss) = telemetry.loss_last.get() {
        page.single(
            "fulcrum_training_loss",
            "gauge",
            "Loss of the last training step.",
            loss,
        );
    }
    gauges(&mut page, snapshot);
    for (name, help, histogram) in [
        (
            "fulcrum_request_latency_seconds",
            "Time from a request's arrival to its answer.",
            &telemetry.latency,
        ),
        (
            "fulcrum_inference_seconds",
            "Time of an inference batch.",
            &telemetry.infer,
        ),
        (
            "fulcrum_training_step_seconds",
            "Time of a training step.",
            &telemetry.train,
        ),
    ] {
        page.histogram(name, help, histogram);
    }
    page.0
}

fn gauges(page: &mut Page, snapshot: &Snapshot<'_>) {
    let watts = |milliwatts: u32| f64::from(milliwatts) / 1e3;
    page.single(
        "fulcrum_power_budget_watts",
        "gauge",
        "The power budget.",
        watts(snapshot.power_budget_mw.0),
    );
    if let Some(power_mw) = snapshot.power_mw {
        page.single(
            "fulcrum_power_watts",
            "gauge",
            "What the board draws.",
            watts(power_mw.0),
        );
    }
    if let Some(budget) = snapshot.latency_budget_us {
        let budget_s = f64::from(budget.0) / 1e6;
        page.single(
            "fulcrum_latency_budget_seconds",
            "gauge",
            "The latency budget.",
            budget_s,
        );
    }
    let mode = snapshot.mode;
    page.single(
        "fulcrum_mode_cores",
        "gauge",
        "CPU cores online.",
        mode.cores,
    );
    page.family(
        "fulcrum_mode_clock_hertz",
        "gauge",
        "Clocks of the mode that is set.",
    );
    for (domain, clock) in [
        ("cpu", mode.cpu_khz),
        ("gpu", mode.gpu_khz),
        ("emc", mode.emc_khz),
    ] {
        let hertz = u64::from(clock.0) * 1_000;
        page.sample("fulcrum_mode_clock_hertz", &[("domain", domain)], hertz);
    }
}
