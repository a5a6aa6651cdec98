//! The pages that a run hands out, made of what the loop publishes.

use super::job::Job;
use fulcrum_runtime::control::Readings;
use fulcrum_runtime::queue::Counts;
use fulcrum_runtime::status::http::Page;
use fulcrum_runtime::status::{Snapshot, prometheus};
use std::time::{Duration, Instant};

/// Shortest time that a rate is taken over.
const RATE_OVER: Duration = Duration::from_millis(900);

/// Where the numbers come from.
pub(crate) struct Pages<'a> {
    job: &'a Job<'a>,
    /// `None`: nothing is served.
    counts: Option<Counts<'a>>,
    /// The same of requests that are not urgent.
    bulk_counts: Option<Counts<'a>>,
    readings: &'a Readings,
    /// When requests and steps were counted last, and how many there were.
    counted: (Instant, [u64; 2]),
    per_second: Option<[f64; 2]>,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(
        job: &'a Job<'a>,
        counts: Option<Counts<'a>>,
        bulk_counts: Option<Counts<'a>>,
        readings: &'a Readings,
    ) -> Self {
        Self {
            job,
            counts,
            bulk_counts,
            readings,
            counted: (job.start, [0; 2]),
            per_second: None,
        }
    }

    /// The page at a path.
    pub(crate) fn page(&mut self, path: &str) -> Option<Page> {
        let snapshot = self.snapshot();
        let (content_type, text) = match path {
            "/status" | "/" => ("text/plain; charset=utf-8", snapshot.text()),
            "/json" => ("application/json", format!("{}\n", snapshot.object())),
            "/metrics" => (prometheus::CONTENT_TYPE, prometheus::page(&snapshot)),
            _ => return None,
        };
        Some(Page { content_type, text })
    }

    fn snapshot(&mut self) -> Snapshot<'_> {
        let job = self.job;
        let arrived = self.counts.map_or(0, Counts::arrived);
        self.count([arrived, job.telemetry.steps.get()]);
        let row = self
            .readings
            .row()
            .and_then(|(row, _)| job.plan.rows.get(row));
        Snapshot {
            board: &job.plan.board,
            mode: row.map_or(job.solution.mode, |row| row.mode),
            uptime: job.start.elapsed(),
            power_budget_mw: job.options.power_mw,
            power_mw: self.readings.power_mw(),
            latency_budget_us: job.options.service.map(|service| service.latency_us),
            arrived,
            rejected: self.counts.map_or(0, Counts::rejected),
            bulk_rejected: self.bulk_counts.map(Counts::rejected),
            telemetry: job.telemetry,
            per_second: self.per_second,
            events: job.recent.events(),
        }
    }

    /// Rates since the page before, or since the start.
    fn count(&mut self, totals: [u64; 2]) {
        let (since, before) = self.counted;
        let elapsed = since.elapsed();
        if elapsed >= RATE_OVER {
            let rate = |index: usize| {
                #[expect(clippy::cast_precision_loss, reason = "for display")]
                let more = totals[index].saturating_sub(before[index]) as f64;
                more / elapsed.as_secs_f64()
            };
            self.per_second = Some([rate(0), rate(1)]);
            self.counted = (Instant::now(), totals);
        }
    }
}
