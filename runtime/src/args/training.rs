//! Options of `fulcrumd run` that say how training is kept.

use super::{Given, UsageError};
use fulcrum_runtime::checkpoint::Every;
use std::time::Duration;

/// `--checkpoint-every`: so many steps, or seconds with an `s` behind them.
pub(super) fn checkpoint_every(given: &Given) -> Result<Every, UsageError> {
    let allowed = "steps from 1 to 1000000000, or seconds as in 60s, 0.1s to 86400s";
    let every = given.parsed("--checkpoint-every", allowed, |text| {
        match text.strip_suffix('s') {
            Some(seconds) => {
                let seconds = seconds.parse::<f64>().ok()?;
                let every = || Every::Time(Duration::from_secs_f64(seconds));
                (0.1..=86_400.0).contains(&seconds).then(every)
            }
            None => {
                let steps = text.parse().ok()?;
                (1..=1_000_000_000)
                    .contains(&steps)
                    .then_some(Every::Steps(steps))
            }
        }
    })?;
    Ok(every.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::Command;
    use super::super::tests::{message, parsed};
    use super::*;

    fn every(value: &str) -> Every {
        let line = format!("run --plan p --power 3 --train t --data d --checkpoint c {value}");
        match parsed(&line) {
            Ok(Command::Run(run)) => run.checkpoint_every,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn checkpoints_are_taken_by_time_or_by_steps() {
        assert_eq!(every(""), Every::Time(Duration::from_secs(60)));
        assert_eq!(
            every("--checkpoint-every 0.5s"),
            Every::Time(Duration::from_millis(500))
        );
        assert_eq!(every("--checkpoint-every 200"), Every::Steps(200));
    }

    #[test]
    fn anything_else_is_refused_with_what_is_allowed() {
        for value in ["0", "-1", "0.05s", "1.5", "s", "NaNs", "5m"] {
            let said = message(&format!(
                "run --plan p --power 3 --checkpoint-every {value}"
            ));
            assert!(said.contains("seconds as in 60s"), "{value}: {said}");
        }
        let alone = message("run --plan p --power 3 --checkpoint-every 5");
        assert!(
            alone.contains("--checkpoint-every needs --checkpoint"),
            "{alone}"
        );
    }
}
