//! The options of `fulcrumd status`.

use super::{Given, UsageError, usage};
use fulcrum_runtime::status::DEFAULT_PATH;
use fulcrum_runtime::status::http::Address;
use std::path::PathBuf;

pub(super) const OPTIONS: [&str; 3] = ["--from", "--json", "--prometheus"];

/// What an address may be.
pub(super) const ALLOWED: &str =
    "a socket's path with a slash in it, or a port of this machine such as 127.0.0.1:9464";

/// Options of `fulcrumd status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// `--from`.
    pub(crate) from: Address,
    /// The page that is wanted.
    pub(crate) page: &'static str,
}

pub(super) fn status(given: &Given) -> Result<Status, UsageError> {
    let page = match (given.has("--json"), given.has("--prometheus")) {
        (false, false) => "/status",
        (true, false) => "/json",
        (false, true) => "/metrics",
        (true, true) => return usage("give --json or --prometheus, not both"),
    };
    let from = given.parsed("--from", ALLOWED, Address::read)?;
    Ok(Status {
        from: from.unwrap_or_else(|| Address::Path(PathBuf::from(DEFAULT_PATH))),
        page,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Command;
    use super::super::tests::{message, parsed};
    use super::*;

    #[test]
    fn a_status_comes_from_this_machine() {
        let Ok(Command::Status(status)) = parsed("status") else {
            panic!("no status");
        };
        assert_eq!(status.from, Address::Path("/run/fulcrum/status".into()));
        assert_eq!(status.page, "/status");
        let Ok(Command::Status(status)) = parsed("status --prometheus --from [::1]:9464") else {
            panic!("no status");
        };
        assert_eq!(status.from, Address::Port("[::1]:9464".parse().unwrap()));
        assert_eq!(status.page, "/metrics");
        for line in [
            "status --from 10.0.0.1:80",
            "status --from x",
            "run --plan p --power 3 --status x",
        ] {
            assert!(
                message(line).contains("a port of this machine"),
                "{}",
                message(line)
            );
        }
        assert!(message("status --json --prometheus").contains("not both"));
    }
}
