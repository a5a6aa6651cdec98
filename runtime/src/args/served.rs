//! Options of `fulcrumd run` that say what is served.

use super::{Given, UsageError, usage};
use std::path::PathBuf;

/// A model that answers requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    /// `--infer`.
    pub(crate) model: PathBuf,
    /// `--listen`; without one, held-out samples are played.
    pub(crate) listen: Option<PathBuf>,
}

/// `--infer` and `--listen`: the first ones are urgent, the second ones are not.
pub(super) fn served(given: &Given) -> Result<[Option<Served>; 2], UsageError> {
    let mut names = ["--infer", "--listen"].into_iter();
    if let Some(name) = names.find(|name| given.values(name).count() > 2) {
        return usage(format!(
            "{name} is given more than twice: one urgent model, one that is not"
        ));
    }
    // Bound to no name, a socket listens where nobody finds it.
    if given.values("--listen").any(|path| path.is_empty()) {
        return usage("--listen is empty: it needs the path of a socket");
    }
    let path = |name, index| given.values(name).nth(index).map(PathBuf::from);
    let served = |index, missing: &str| match (path("--infer", index), path("--listen", index)) {
        (None, Some(_)) => usage(missing),
        (model, listen) => Ok(model.map(|model| Served { model, listen })),
    };
    Ok([
        served(0, "--listen needs --infer")?,
        served(1, "a second --listen needs a second --infer")?,
    ])
}

#[cfg(test)]
mod tests {
    use super::super::Command;
    use super::super::tests::{message, parsed};
    use super::*;

    const BASE: &str = "run --plan p --power 3 --latency-ms 5 --rate 6 --data d";

    #[test]
    fn the_second_model_and_socket_are_those_that_are_not_urgent() {
        let of = |rest: &str| match parsed(&format!("{BASE} {rest}")) {
            Ok(Command::Run(run)) => (run.infer, run.bulk),
            other => panic!("{other:?}"),
        };
        let served = |model: &str, listen: Option<&str>| {
            Some(Served {
                model: model.into(),
                listen: listen.map(PathBuf::from),
            })
        };
        let both = of("--infer a --listen s --infer b --listen t");
        assert_eq!(both, (served("a", Some("s")), served("b", Some("t"))));
        let one = of("--infer a --infer b --listen s");
        assert_eq!(one, (served("a", Some("s")), served("b", None)));
        assert_eq!(of("--train t"), (None, None));
    }

    #[test]
    fn a_socket_without_a_model_and_a_third_one_are_refused() {
        for (rest, part) in [
            ("--train t --listen s", "--listen needs --infer"),
            ("--infer a --listen=", "--listen is empty"),
            (
                "--infer a --listen s --listen t",
                "a second --listen needs a second --infer",
            ),
            (
                "--infer a --infer b --infer c",
                "--infer is given more than twice",
            ),
            (
                "--infer a --listen s --listen t --listen u",
                "--listen is given more than twice",
            ),
        ] {
            let said = message(&format!("{BASE} {rest}"));
            assert!(said.contains(part), "{rest}: {said}");
        }
    }
}
