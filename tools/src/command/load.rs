//! `fulcrum load`: requests for a `fulcrumd` that listens on this machine.
//!
//! A request socket is a file, so whoever loads it runs beside it, on a device as well as here: the generator
//! is `fulcrumd load`, and this hands over to it.

use crate::fulcrumd;
use crate::verdict::Verdict;
use anyhow::Context;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Options of `fulcrum load`.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// Options of `fulcrumd load`, such as --to SOCKET --rate 60 --arrivals poisson
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "OPTION"
    )]
    options: Vec<OsString>,
}

/// Becomes `fulcrumd load`; does not return when that starts.
///
/// # Errors
/// There is no `fulcrumd`, or it does not start.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let program = fulcrumd::find(None)?;
    let error = Command::new(&program)
        .arg("load")
        .args(&arguments.options)
        .exec();
    Err(error).with_context(|| format!("starting {}", program.display()))
}
