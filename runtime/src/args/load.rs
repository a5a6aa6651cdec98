//! The options of `fulcrumd load`.

use super::{Given, UsageError, usage};
use fulcrum_plan::units::{MicroSec, MilliRps};
use fulcrum_runtime::arrivals::Process;
use std::path::PathBuf;
use std::time::Duration;

pub(super) const OPTIONS: [&str; 9] = [
    "--to",
    "--rate",
    "--arrivals",
    "--trace",
    "--duration-s",
    "--latency-ms",
    "--data",
    "--seed",
    "--json",
];

/// When requests are due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    /// `--arrivals` and `--rate`.
    Drawn(Process, MilliRps),
    /// `--trace`.
    Trace(PathBuf),
}

/// Options of `fulcrumd load`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Load {
    /// `--to`.
    pub(crate) to: PathBuf,
    /// When requests are due.
    pub(crate) times: Times,
    /// `--duration-s`.
    pub(crate) duration: Duration,
    /// `--latency-ms`.
    pub(crate) budget_us: Option<MicroSec>,
    /// `--data`.
    pub(crate) data: Option<PathBuf>,
    /// `--seed`.
    pub(crate) seed: u64,
    /// `--json`.
    pub(crate) json: bool,
}

pub(super) fn load(given: &Given) -> Result<Load, UsageError> {
    let rate = given.number("--rate", 0.001, 1_000_000.0)?;
    let process = given.arrivals()?;
    let times = match (given.path("--trace"), rate.and_then(MilliRps::per_second)) {
        (Some(trace), None) if process.is_none() => Times::Trace(trace),
        (None, Some(rate)) => Times::Drawn(process.unwrap_or(Process::Constant), rate),
        (Some(_), _) => return usage("--trace goes without --rate and --arrivals"),
        (None, None) => return usage("`fulcrumd load` needs --rate R or --trace FILE"),
    };
    // A trace has an end of its own.
    let default_s = if matches!(times, Times::Trace(_)) {
        31_536_000.0
    } else {
        10.0
    };
    let duration_s = given.number("--duration-s", 0.1, 31_536_000.0)?;
    Ok(Load {
        to: given.required("--to SOCKET", given.path("--to"))?,
        times,
        duration: Duration::from_secs_f64(duration_s.unwrap_or(default_s)),
        budget_us: given
            .number("--latency-ms", 0.1, 600_000.0)?
            .and_then(MicroSec::budget_ms),
        data: given.path("--data"),
        seed: given.seed()?,
        json: given.has("--json"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Command;
    use super::super::tests::{message, parsed};
    use super::*;

    #[test]
    fn a_load_is_drawn_or_a_trace() {
        let Ok(Command::Load(load)) =
            parsed("load --to s --rate 60 --arrivals poisson --latency-ms 500")
        else {
            panic!("no load");
        };
        assert_eq!(load.times, Times::Drawn(Process::Poisson, MilliRps(60_000)));
        assert_eq!((load.duration, load.seed), (Duration::from_secs(10), 1));
        assert_eq!(load.budget_us, Some(MicroSec(500_000)));
        let Ok(Command::Load(load)) = parsed("load --to s --trace t --json") else {
            panic!("no load");
        };
        assert_eq!((load.times, load.json), (Times::Trace("t".into()), true));
        for (line, part) in [
            ("load --rate 1", "needs --to SOCKET"),
            ("load --to s", "--rate R or --trace FILE"),
            ("load --to s --trace t --rate 1", "without --rate"),
            ("load --to s --trace t --arrivals poisson", "without --rate"),
            ("load --to s --rate 0", "0.001 to 1000000"),
        ] {
            assert!(message(line).contains(part), "{line}: {}", message(line));
        }
    }
}
