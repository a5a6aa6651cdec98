//! `cargo run --release -p fulcrum-tests --example soak -- --minutes 60 [--seed N]`: a long soak of `fulcrumd`
//! ([`fulcrum_tests::soak`]). Exit code 0 if everything held, 1 if not, 2 for a wrong option.

use fulcrum_tests::soak::{self, Soak};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let Some(soak) = read(std::env::args().skip(1)) else {
        eprintln!("usage: soak [--minutes M (0.1 to 10000, default 60)] [--seed N (default 1)]");
        return ExitCode::from(2);
    };
    let report = soak::run(&soak);
    println!("seed {}: {report}", soak.seed);
    ExitCode::from(u8::from(!report.violations.is_empty()))
}

fn read(mut arguments: impl Iterator<Item = String>) -> Option<Soak> {
    let mut soak = Soak {
        duration: Duration::from_secs(3600),
        seed: 1,
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match name.as_str() {
            "--minutes" => {
                let minutes: f64 = value.parse().ok()?;
                let allowed = (0.1..=10_000.0).contains(&minutes);
                soak.duration = allowed.then(|| Duration::from_secs_f64(60.0 * minutes))?;
            }
            "--seed" => soak.seed = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(soak)
}
