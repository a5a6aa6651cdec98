//! Hours of board time on the measured grids, as a table: `hours [COUNT] [FIRST]`, seeds `FIRST..FIRST + COUNT`.
//!
//! ```text
//! cargo run --release -p fulcrum-tests --bin hours -- 1000
//! ```
//!
//! With `--each` a line per hour comes first.

use fulcrum_tests::grids;
use fulcrum_tests::hours::table;

fn main() {
    let mut numbers: Vec<u64> = Vec::new();
    let mut each = false;
    for argument in std::env::args().skip(1) {
        match argument.parse() {
            Ok(number) => numbers.push(number),
            Err(_) if argument == "--each" => each = true,
            Err(_) => {
                eprintln!("`{argument}`: expected [COUNT] [FIRST] [--each]");
                std::process::exit(2);
            }
        }
    }
    let count = numbers.first().copied().unwrap_or(1_000);
    let first = numbers.get(1).copied().unwrap_or(0);
    let Some(folder) = grids::folder() else {
        return;
    };
    let plans = table::plans(&folder);
    let sums = table::live(&plans, first..first + count, |trace, outcome| {
        if each {
            println!(
                "{trace:?}\n  {outcome:?} met {:.5} train {:.4}",
                outcome.met_share(),
                outcome.train_share()
            );
        }
    });
    print!("{}", table::text(&sums));
}
