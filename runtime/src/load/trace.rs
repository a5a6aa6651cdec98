//! A trace: the times at which the requests of a load are due.

use std::fmt;

/// Most requests of a trace: 80 MB of times.
const TRACE_MAX: usize = 10_000_000;

/// Why a trace cannot be played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceError {
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        f.write_str(self.problem)
    }
}

impl std::error::Error for TraceError {}

/// Reads a trace, to ns from the start: one time a line, in seconds, none before its predecessor. Empty lines
/// and what follows a `#` are comments.
///
/// # Errors
/// [`TraceError`]: a line that is no time, or goes back; no line at all; too many.
pub fn read(text: &str) -> Result<Vec<u64>, TraceError> {
    let refuse = |line, problem| Err(TraceError { line, problem });
    let mut times: Vec<u64> = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let time_s: f64 = match text.parse() {
            Ok(time_s) if (0.0..=31_536_000.0).contains(&time_s) => time_s,
            _ => return refuse(line, "not a time from 0 to 31536000 seconds"),
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked: between 0 and 2^55"
        )]
        let time_ns = (time_s * 1e9).round() as u64;
        if times.last().is_some_and(|last| time_ns < *last) {
            return refuse(line, "before the line above it");
        }
        if times.len() == TRACE_MAX {
            return refuse(line, "more than 10,000,000 requests");
        }
        times.push(time_ns);
    }
    if times.is_empty() {
        return refuse(0, "no request in it");
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read_and_what_is_wrong_with_one_is_said_with_its_line() {
        let times = read("# s\n0\n0.5 # half\n\n0.5\n2e0\n").unwrap();
        assert_eq!(times, [0, 500_000_000, 500_000_000, 2_000_000_000]);
        for (text, line) in [
            ("", 0),
            ("#\n", 0),
            ("1\nx", 2),
            ("1\n-1", 2),
            ("2\n1.9", 2),
            ("nan", 1),
        ] {
            assert_eq!(read(text).unwrap_err().line, line, "{text:?}");
        }
    }
}
