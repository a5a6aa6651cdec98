//! A study as Markdown.

use super::{Study, Summary};
use std::fmt::Write as _;

const HEAD: &str = "| problem | strategy | mean loss (worst task) | median | p95 | worst | solved | \
    violations (> 1 W or 10 ms) | runs | modes | s |\n|---|---|---|---|---|---|---|---|---|---|---|\n";

impl Study {
    /// The results as Markdown tables: over all tasks, then by task.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = format!(
            "Source: {}; grid {}; {} seeds. Loss: share of throughput lost against the exhaustive \
             optimum or, for inference, of peak latency in excess; a configuration that was not solved \
             counts as 100 %. Runs and modes are per search, seconds are computing time per task and \
             seed.\n\n{HEAD}",
            self.source, self.grid, self.seeds
        );
        for summary in &self.overall {
            line(&mut text, summary, summary.problem.name());
        }
        let _ = write!(
            text,
            "\nBy task:\n\n{}",
            HEAD.replace("| problem |", "| task |")
        );
        for summary in &self.by_task {
            let name = format!(
                "{}: {}",
                summary.problem.name(),
                summary.task.as_deref().unwrap_or_default()
            );
            line(&mut text, summary, &name);
        }
        text
    }
}

fn line(text: &mut String, summary: &Summary, name: &str) {
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let violations = &summary.violations;
    let share = |count: usize| percent(count as f64 / violations.answers.max(1) as f64);
    let of_violations = match violations.total() {
        0 => "0".to_owned(),
        _ => format!(
            "power {}, latency {}, rate {} ({})",
            share(violations.power),
            share(violations.latency),
            share(violations.rate),
            share(violations.gross)
        ),
    };
    let _ = writeln!(
        text,
        "| {name} | {} | {} ({}) | {} | {} | {} | {} | {of_violations} | {:.1} | {:.1} | {:.2} |",
        summary.strategy,
        percent(summary.loss.mean),
        percent(summary.worst_task_mean),
        percent(summary.loss.median),
        percent(summary.loss.p95),
        percent(summary.loss.worst),
        percent(summary.solved),
        summary.runs,
        summary.modes,
        summary.seconds,
    );
}
