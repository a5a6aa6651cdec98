//! Builds a training step from the command line, for the scripts in `tools/python`:
//! `train_step MODEL.onnx STEP.onnx LOSS OPTIMIZER BATCH [KEY=VALUE]…` with the keys `freeze`, `layout`,
//! `dampening`, `decay`, `clip`, `accumulate`, `class-axis` and `dropout` (a seed, or `off`).

use fulcrum_training::{Files, Model, Options, build};
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, step, loss, optimizer, batch, rest @ ..] = arguments.as_slice() else {
        return Err("MODEL.onnx STEP.onnx LOSS OPTIMIZER BATCH [KEY=VALUE]…".into());
    };
    let mut options = Options::new(loss.parse()?, optimizer.parse()?, batch.parse()?);
    for argument in rest {
        let (key, value) = argument.split_once('=').ok_or("options are KEY=VALUE")?;
        match key {
            "freeze" => options.freeze = Some(value.parse()?),
            "layout" => options.layout = value.parse()?,
            "decay" => options.weight_decay = Some(value.parse()?),
            "no-decay" => options.no_decay = Some(value.parse()?),
            "dampening" => options.dampening = value.parse()?,
            "clip" => options.clip_norm = Some(value.parse()?),
            "accumulate" => options.accumulate = value.parse()?,
            "class-axis" => options.class_axis = value.parse()?,
            "dropout" if value == "off" => options.dropout_seed = None,
            "dropout" => options.dropout_seed = Some(value.parse()?),
            _ => return Err(format!("no option '{key}'").into()),
        }
    }
    let model = Model::read(Path::new(model))?;
    for (path, bytes) in build(&model, &options)?.encode(&Files::beside(Path::new(step)))? {
        std::fs::write(path, bytes)?;
    }
    Ok(())
}
