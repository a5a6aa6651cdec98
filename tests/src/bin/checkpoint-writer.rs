//! Replaces the checkpoint its argument names, as fast as it can, until it is killed: the victim of
//! `tests/checkpoint.rs`.

use fulcrum_runtime::engine::params;
use std::path::Path;
use std::process::ExitCode;

/// Elements of the first tensor; the second has three. All hold the number of the checkpoint.
const ELEMENTS: usize = 20_000;

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: checkpoint-writer FILE");
        return ExitCode::from(2);
    };
    for number in (1..=u16::MAX).cycle() {
        let tensors = [
            vec![f32::from(number); ELEMENTS],
            vec![f32::from(number); 3],
        ];
        let tensors = tensors.iter().map(Vec::as_slice);
        if let Err(error) = params::write(Path::new(&path), tensors, None) {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
