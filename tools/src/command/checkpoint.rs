//! `fulcrum checkpoint`: what training reached, out to other formats and back in.

use crate::verdict::Verdict;
use anyhow::{Context, bail};
use fulcrum_plan::durable::replace_file;
use fulcrum_training::Model;
use fulcrum_training::checkpoint::Step;
use fulcrum_training::safetensors;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Options of `fulcrum checkpoint`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Write a checkpoint's weights as a plain ONNX model or as safetensors
    Export(Export),
    /// Make a parameter file for a training step of the weights in an ONNX model or in safetensors
    Import(Import),
}

#[derive(Debug, clap::Args)]
struct Export {
    /// The checkpoint, or a parameter file
    checkpoint: PathBuf,
    /// The training step it is of; its companions lie beside it
    #[arg(long, value_name = "STEP.onnx")]
    step: PathBuf,
    /// Where to write: .onnx or .safetensors
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Import {
    /// The weights: .onnx or .safetensors, under the names of the forward model
    weights: PathBuf,
    /// The training step they are for; its companions lie beside it
    #[arg(long, value_name = "STEP.onnx")]
    step: PathBuf,
    /// Where to write the parameter file: a --checkpoint of `fulcrumd run`, or the step's own
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// A file that cannot be read or written, a checkpoint of another step, or weights that the step does not
/// have or has in another shape; the message names them, and nothing is half-written.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    match &arguments.action {
        Action::Export(export) => export_to(export),
        Action::Import(import) => import_from(import),
    }?;
    Ok(Verdict::Done)
}

fn extension(path: &Path) -> &str {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.unwrap_or("")
}

fn export_to(export: &Export) -> anyhow::Result<()> {
    let step = Step::read(&export.step)?;
    let tensors = step.named(&export.checkpoint)?;
    let count = tensors.len();
    let bytes = match extension(&export.to) {
        "onnx" => step.forward(tensors).encode(&[]),
        "safetensors" => safetensors::encode(&tensors),
        _ => bail!(
            "--to {}: allowed is .onnx or .safetensors",
            export.to.display()
        ),
    };
    replace_file(&export.to, &bytes).with_context(|| format!("--to {}", export.to.display()))?;
    writeln!(io::stdout(), "{}: {count} tensors", export.to.display())?;
    Ok(())
}

fn import_from(import: &Import) -> anyhow::Result<()> {
    let step = Step::read(&import.step)?;
    let path = &import.weights;
    let of_file = || path.display().to_string();
    let tensors = match extension(path) {
        "onnx" => Step::of_model(&Model::read(path).with_context(of_file)?),
        "safetensors" => {
            safetensors::decode(&fs::read(path).with_context(of_file)?).with_context(of_file)?
        }
        _ => bail!(
            "{}: weights are read from .onnx and .safetensors",
            path.display()
        ),
    };
    let bytes = step.params(tensors).with_context(of_file)?;
    replace_file(&import.out, &bytes).with_context(|| format!("--out {}", import.out.display()))?;
    writeln!(
        io::stdout(),
        "{}: parameters of {}; optimizer state as at the step's start",
        import.out.display(),
        path.display()
    )?;
    Ok(())
}
