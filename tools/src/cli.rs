//! The command line: its subcommands, and what their outcome means as an exit code.

use crate::command::{
    check, checkpoint, demo, engine, evaluate, flash, import_nvpmodel, load, pack_data, plan,
    report, select, show, train_step,
};
use crate::verdict::Verdict;
use clap::{Parser, Subcommand};

/// Fulcrum plans power modes of Jetson boards under power and latency budgets.
#[derive(Debug, Parser)]
#[command(name = "fulcrum", version, about, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 the answer is no (bad plan, no solution), 2 usage or I/O."
)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole way on this machine: plan for a simulated board, flash to a folder, serve and train
    Demo(demo::Arguments),
    /// Profile modes and write a plan
    Plan(plan::Arguments),
    /// Print every mode of a plan with its measured times and powers
    Show(show::Arguments),
    /// Check a plan: exit code 0 if it is good, 1 if not, with the rule and the row
    Check(check::Arguments),
    /// Print what a device would choose for a budget
    Select(select::Arguments),
    /// Put a plan onto a device: a folder, or a host through ssh
    Flash(flash::Arguments),
    /// Send requests to a fulcrumd that listens, and say what became of them
    Load(load::Arguments),
    /// The ONNX Runtime library
    Engine(engine::Arguments),
    /// Write a page for people: the front, what each budget selects, what was spent
    Report(report::Arguments),
    /// Compare strategies with the exhaustive optimum
    Evaluate(evaluate::Arguments),
    /// Make a training step of a forward ONNX model
    TrainStep(train_step::Arguments),
    /// Weights of a checkpoint as ONNX or safetensors, and back
    Checkpoint(checkpoint::Arguments),
    /// Make a data file for fulcrumd of arrays, a table, or a folder of images
    PackData(pack_data::Arguments),
    /// Read NVIDIA's named modes out of a board's own nvpmodel.conf
    ImportNvpmodel(import_nvpmodel::Arguments),
}

/// Runs a command.
///
/// # Errors
/// Usage that clap cannot see, and I/O; the message names the option or the path.
pub fn run(command_line: CommandLine) -> anyhow::Result<Verdict> {
    match command_line.command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Show(arguments) => show::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Select(arguments) => select::run(&arguments),
        Command::Flash(arguments) => flash::run(&arguments),
        Command::Load(arguments) => load::run(&arguments),
        Command::Engine(arguments) => engine::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::TrainStep(arguments) => train_step::run(&arguments),
        Command::Checkpoint(arguments) => checkpoint::run(&arguments),
        Command::PackData(arguments) => pack_data::run(&arguments),
        Command::ImportNvpmodel(arguments) => import_nvpmodel::run(&arguments),
    }
}
