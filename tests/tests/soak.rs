//! The soak for a few lives; an hour of it is `cargo run --release -p fulcrum-tests --example soak`.

use fulcrum_tests::soak::{self, Soak};
use std::time::Duration;

#[test]
fn nothing_is_lost_and_nothing_stays_while_clients_and_board_misbehave() {
    let soak = Soak {
        duration: Duration::from_secs(14),
        seed: 1,
    };
    let report = soak::run(&soak);
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
    assert!(report.lives >= 2, "{report}");
    assert!(report.requests.answered > 0, "{report}");
    assert!(report.steps[0] > 0, "{report}");
}
