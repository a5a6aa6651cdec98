//! Options of `fulcrumd run` that say how training is kept.

use super::{Given, UsageError, usage};
use fulcrum_runtime::checkpoint::Every;
use std::path::PathBuf;
use std::time::Duration;

/// Samples that judge trained weights.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Judges {
    /// All of a file.
    File(PathBuf),
    /// A share of `--data`, which is then not trained on.
    Share(f64),
}

/// `--validate` and `--validate-every`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Validate {
    pub(crate) judges: Judges,
    /// Steps between two checks; `None`: an epoch.
    pub(crate) every_steps: Option<u64>,
}

/// `--validate`: a share from 0.01 to 0.5, or a file.
pub(super) fn validate(given: &Given) -> Result<Option<Validate>, UsageError> {
    let every_steps = given.parsed(
        "--validate-every",
        "a number of steps from 1 to 1000000000",
        |text| {
            let steps = text.parse().ok()?;
            (1..=1_000_000_000).contains(&steps).then_some(steps)
        },
    )?;
    let Some(value) = given.value("--validate") else {
        return match every_steps {
            Some(_) => usage("--validate-every needs --validate FILE or SHARE"),
            None => Ok(None),
        };
    };
    let judges = match value.to_str().and_then(|text| text.parse::<f64>().ok()) {
        Some(share) if (0.01..=0.5).contains(&share) => Judges::Share(share),
        Some(share) => {
            return usage(format!(
                "--validate {share}: allowed is a share from 0.01 to 0.5, or a file"
            ));
        }
        None => Judges::File(value.into()),
    };
    if !(given.has("--train") && given.has("--infer")) {
        return usage(
            "--validate needs --train and --infer: it decides whether the one's weights serve",
        );
    }
    Ok(Some(Validate {
        judges,
        every_steps,
    }))
}

/// `--checkpoint-every`: so many steps, or seconds with an `s` behind them.
pub(super) fn checkpoint_every(given: &Given) -> Result<Every, UsageError> {
    let allowed =
        "a number of steps from 1 to 1000000000, or of seconds as in 60s, from 0.1s to 86400s";
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

    #[test]
    fn trained_weights_are_judged_by_a_share_or_a_file() {
        let base = "run --plan p --power 3 --train t --infer i --data d --latency-ms 5 --rate 6";
        let judges = |rest: &str| match parsed(&format!("{base} {rest}")) {
            Ok(Command::Run(run)) => run.validate.unwrap().judges,
            other => panic!("{other:?}"),
        };
        assert_eq!(judges("--validate 0.2"), Judges::Share(0.2));
        assert_eq!(judges("--validate v.rec"), Judges::File("v.rec".into()));
        for (rest, part) in [
            ("--validate 0.6", "0.01 to 0.5"),
            ("--validate-every 5", "needs --validate"),
            (
                "--validate 0.1 --validate-every 0",
                "a number of steps from 1",
            ),
        ] {
            let said = message(&format!("{base} {rest}"));
            assert!(said.contains(part), "{rest}: {said}");
        }
        let alone = message("run --plan p --power 3 --train t --data d --validate 0.1");
        assert!(alone.contains("needs --train and --infer"), "{alone}");
    }
}
