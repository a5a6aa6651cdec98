//! A study as Markdown.

use super::summary::COLUMNS;
use super::{Study, Summary};
use std::fmt::Write as _;

impl Study {
    /// The results as Markdown tables: over all tasks, then by task.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = self.heading();
        text += "\n\n";
        head(&mut text, "problem");
        for summary in &self.overall {
            line(&mut text, &summary.title(), summary);
        }
        text += "\nBy task:\n\n";
        head(&mut text, "task");
        for summary in &self.by_task {
            let task = summary.task.as_deref().unwrap_or_default();
            line(&mut text, &format!("{}: {task}", summary.title()), summary);
        }
        text
    }
}

fn head(text: &mut String, first: &str) {
    let _ = writeln!(text, "| {first} | strategy | {} |", COLUMNS.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(COLUMNS.len() + 2));
}

fn line(text: &mut String, name: &str, summary: &Summary) {
    let columns = summary.columns().join(" | ");
    let _ = writeln!(text, "| {name} | {} | {columns} |", summary.strategy);
}
