//! Aligned tables on the terminal: numbers to the right, words to the left.

use std::fmt;

/// A table that is aligned when it is printed.
#[derive(Clone, Debug, Default)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column titles.
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        Self {
            header: header.iter().map(ToString::to_string).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells beyond the header are kept, missing ones are blank.
    pub fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for row in std::iter::once(&self.header).chain(&self.rows) {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }

    /// A column is numeric if every cell below its title begins like a number or is a dash.
    fn is_numeric(&self, column: usize) -> bool {
        let like_number = |cell: &str| {
            cell.is_empty()
                || cell.starts_with(|first: char| first.is_ascii_digit() || first == '-')
        };
        self.rows
            .iter()
            .all(|row| row.get(column).is_none_or(|cell| like_number(cell)))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for row in std::iter::once(&self.header).chain(&self.rows) {
            let mut line = String::new();
            for (column, width) in widths.iter().enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                let gap = if column == 0 { "" } else { "  " };
                line += &if self.is_numeric(column) {
                    format!("{gap}{cell:>width$}")
                } else {
                    format!("{gap}{cell:<width$}")
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_align_right_and_words_left() {
        let mut table = Table::new(&["mode", "W"]);
        table.push(vec!["low".into(), "9.5".into()]);
        table.push(vec!["maximum".into(), "48.1".into()]);
        table.push(vec!["none".into(), "-".into()]);
        let lines = [
            "mode        W",
            "low       9.5",
            "maximum  48.1",
            "none        -",
            "",
        ];
        assert_eq!(table.to_string(), lines.join("\n"));
    }
}
