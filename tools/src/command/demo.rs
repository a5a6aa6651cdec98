//! `fulcrum demo`: the whole way, on this machine, in under a minute.
//!
//! Plans for a simulated AGX Orin, flashes the plan into a folder, and starts `fulcrumd` on it with a
//! folder that looks like the board's sysfs, real requests, a real ONNX model and a real training
//! step. What the plan promises for the board and what is measured here are shown apart.

use crate::board_folder::{self, JetPack};
use crate::command::{plan, show};
use crate::digits::{self, Digits};
use crate::engine_install;
use crate::fulcrumd::{self, Running};
use crate::verdict::Verdict;
use crate::{plan_file, progress};
use anyhow::Context;
use fulcrum_plan::store::Store;
use fulcrum_planner::margin::Margin;
use fulcrum_planner::plan::PlanRequest;
use fulcrum_planner::prior::Prior;
use fulcrum_planner::profile::synthetic::Synthetic;
use fulcrum_planner::search::{Kind, Strategy};
use fulcrum_planner::space::Grid;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const BOARD: &str = "orin-agx";
const PROFILES: u32 = 50;
/// The digits model, its training step and their first parameters; `tools/models/digits` has the
/// generator.
const MODELS: [(&str, &[u8]); 3] = [
    (
        "infer.onnx",
        include_bytes!("../../models/digits/infer.onnx"),
    ),
    (
        "train.onnx",
        include_bytes!("../../models/digits/train.onnx"),
    ),
    (
        "train.params",
        include_bytes!("../../models/digits/train.params"),
    ),
];
/// Held-out accuracy that the demo has to pass.
const ACCURACY_MIN: f64 = 0.95;

/// Options of `fulcrum demo`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Power budget in W
    #[arg(long, value_name = "W", default_value_t = 30.0)]
    power: f64,
    /// Latency budget in ms
    #[arg(long, value_name = "MS", default_value_t = 500.0)]
    latency_ms: f64,
    /// Requests per second
    #[arg(long, value_name = "PER_S", default_value_t = 60.0)]
    rate: f64,
    /// How long to serve and train, in s
    #[arg(long, value_name = "S", default_value_t = 20)]
    seconds: u32,
    /// Seed of the simulated board, the search and the requests
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Keep the device folder here instead of a temporary one
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// The runtime to start; default: beside this program, or on the PATH
    #[arg(long, value_name = "FILE")]
    fulcrumd: Option<PathBuf>,
    /// The ONNX Runtime library; default: the pinned one, fetched once
    #[arg(long, value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
}

/// The folders of the demo's device; removed at the end unless they are to be kept.
struct Device {
    folder: PathBuf,
    keep: bool,
}

impl Device {
    fn create(keep: Option<&Path>) -> anyhow::Result<Self> {
        let temporary =
            || std::env::temp_dir().join(format!("fulcrum-demo-{}", std::process::id()));
        let device = Self {
            folder: keep.map_or_else(temporary, Path::to_path_buf),
            keep: keep.is_some(),
        };
        fs::create_dir_all(&device.folder).with_context(|| device.folder.display().to_string())?;
        Ok(device)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if !self.keep {
            // A folder in the temporary directory that stays behind harms nobody.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Something cannot be fetched, built or started; the message says what and how to help.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let mut out = io::stdout().lock();
    writeln!(out, "[1/4] engine and data")?;
    let library = match &arguments.onnxruntime {
        Some(path) => path.clone(),
        None => engine_install::install()?,
    };
    let digits = digits::install()?;
    writeln!(out, "      ONNX Runtime: {}", library.display())?;
    writeln!(out, "      digits: {}", digits.train.display())?;
    let program = fulcrumd::find(arguments.fulcrumd.as_deref())?;

    let device = Device::create(arguments.keep.as_deref())?;
    plan_and_flash(&mut out, arguments, &device)?;

    writeln!(
        out,
        "[4/4] fulcrumd: {} W, {} ms, {} requests/s, {} s on this machine",
        arguments.power, arguments.latency_ms, arguments.rate, arguments.seconds
    )?;
    let (started, summary) = serve(arguments, &device, &program, &library, &digits)?;
    write_promise(&mut out, &started)?;
    write_measured(&mut out, arguments, &summary)?;
    Ok(judge(&mut out, &summary)?)
}

fn plan_and_flash(
    out: &mut impl Write,
    arguments: &Arguments,
    device: &Device,
) -> anyhow::Result<()> {
    writeln!(
        out,
        "[2/4] plan: a simulated {BOARD}, als, {PROFILES} profiles, seed {}",
        arguments.seed
    )?;
    let board = plan_file::board(BOARD)?;
    let mut source = Synthetic::new(&board, arguments.seed);
    let request = PlanRequest {
        train: Some("resnet18".into()),
        infer: vec!["mobilenetv3".into()],
        strategy: Strategy {
            kind: Kind::Als,
            limit: Some(PROFILES),
        },
        max_profiles: None,
        seed: arguments.seed,
        grid: Grid::All,
        demand: None,
        prior: Prior::default(),
        margin: Margin::default(),
    };
    let (table, report) = plan::search(&mut source, &board, &request)?;
    plan::write_report(out, &table, &report)?;
    write!(out, "{}", show::table(&table))?;

    let path = device.path("demo.plan");
    let length = plan_file::write(&path, &table, &board)?;
    let store = Store::new(&device.path("plans"));
    let bytes = plan_file::read_bytes(&path)?;
    store.flash(&bytes, std::slice::from_ref(&board))?;
    writeln!(
        out,
        "[3/4] flash: {length} bytes to {}",
        device.path("plans").display()
    )?;

    let sysfs = device.path("board");
    // The simulated board has the 13 GPU clocks of JetPack 5.0 firmware.
    board_folder::create(&sysfs, &board, JetPack::Five)
        .with_context(|| sysfs.display().to_string())?;
    for (name, bytes) in MODELS {
        fs::write(device.path(name), bytes)?;
    }
    Ok(())
}

/// Runs `fulcrumd` and returns its first and its last event.
fn serve(
    arguments: &Arguments,
    device: &Device,
    program: &Path,
    library: &Path,
    digits: &Digits,
) -> anyhow::Result<(Value, Value)> {
    let options: [(&str, OsString); 14] = [
        ("--plan-dir", device.path("plans").into()),
        ("--sysfs-root", device.path("board").into()),
        ("--state-dir", device.path("state").into()),
        ("--power", arguments.power.to_string().into()),
        ("--latency-ms", arguments.latency_ms.to_string().into()),
        ("--rate", arguments.rate.to_string().into()),
        ("--infer", device.path("infer.onnx").into()),
        ("--train", device.path("train.onnx").into()),
        ("--data", digits.train.as_os_str().into()),
        ("--held-out", digits.held_out.as_os_str().into()),
        ("--onnxruntime", library.into()),
        ("--checkpoint", device.path("trained.params").into()),
        ("--duration-s", arguments.seconds.to_string().into()),
        ("--seed", arguments.seed.to_string().into()),
    ];
    let command_line: Vec<&OsStr> = options
        .iter()
        .flat_map(|(name, value)| [OsStr::new(name), value])
        .collect();
    let running = Running::start(program, &command_line, &device.path("fulcrumd.log"))?;
    let bar = progress::bar("      serving and training", u64::from(arguments.seconds));
    let mut started = Value::Null;
    let summary = running.follow(|event| match event["event"].as_str() {
        Some("started") => started = event.clone(),
        Some("progress") => {
            bar.set_position(event["elapsed_s"].as_f64().map_or(0, |s| s.round() as u64));
            bar.set_message(format!(
                "served {}, late {}, training steps {}, loss {:.4}",
                event["served"],
                event["late"],
                event["steps"],
                event["loss"].as_f64().unwrap_or(f64::NAN)
            ));
        }
        _ => {}
    });
    bar.finish_and_clear();
    Ok((started, summary?))
}

/// The number at a path such as `latency_us.p99`.
fn number(event: &Value, path: &str) -> f64 {
    let found = path.split('.').fold(event, |value, key| &value[key]);
    found.as_f64().unwrap_or(f64::NAN)
}

fn write_promise(out: &mut impl Write, started: &Value) -> io::Result<()> {
    let mode = &started["mode"];
    writeln!(out, "\nPROMISED by the plan, for the simulated {BOARD}")?;
    writeln!(
        out,
        "  mode       {} cores, CPU {} MHz, GPU {} MHz, EMC {} MHz",
        mode["cores"],
        number(mode, "cpu_khz") / 1e3,
        number(mode, "gpu_khz") / 1e3,
        number(mode, "emc_khz") / 1e3
    )?;
    writeln!(
        out,
        "  power      {:.2} W",
        number(started, "power_mw") / 1e3
    )?;
    writeln!(out, "  batch      {} requests", started["batch"])?;
    writeln!(
        out,
        "  latency    {:.1} ms peak",
        number(started, "latency_us") / 1e3
    )?;
    writeln!(
        out,
        "  training   {} steps per window, {:.2} per second",
        started["k"],
        number(started, "train_per_s")
    )?;
    Ok(())
}

fn write_measured(out: &mut impl Write, arguments: &Arguments, summary: &Value) -> io::Result<()> {
    writeln!(
        out,
        "\nMEASURED on this machine, with the digits model on its CPU"
    )?;
    writeln!(
        out,
        "  latency    p50 {:.2} ms, p99 {:.2} ms, budget {} ms; {} of {} requests late, {} rejected",
        number(summary, "latency_us.p50") / 1e3,
        number(summary, "latency_us.p99") / 1e3,
        arguments.latency_ms,
        summary["late"],
        summary["served"],
        summary["rejected"]
    )?;
    writeln!(
        out,
        "  training   {:.1} steps per window, {:.1} per second",
        number(summary, "steps_per_window"),
        number(summary, "train_per_s")
    )?;
    writeln!(
        out,
        "  loss       {:.4} before, {:.4} after {} steps",
        number(summary, "loss_first"),
        number(summary, "loss_last"),
        summary["steps"]
    )?;
    writeln!(
        out,
        "  accuracy   {:.4} before, {:.4} after, on held-out digits",
        number(summary, "accuracy_before"),
        number(summary, "accuracy_after")
    )?;
    writeln!(
        out,
        "  Rust allocations in the loop: {}",
        summary["allocations_in_loop"]
    )?;
    let restored = if summary["restored"] == true {
        "put back"
    } else {
        "NOT put back"
    };
    writeln!(out, "  the board's clocks were {restored}")
}

/// The demo is good if what it shows is: every claim is checked, except those about this machine's
/// speed.
fn judge(out: &mut impl Write, summary: &Value) -> io::Result<Verdict> {
    let claims = [
        ("requests were served", number(summary, "served") > 0.0),
        (
            "held-out accuracy passed 0.95",
            number(summary, "accuracy_after") > ACCURACY_MIN,
        ),
        (
            "the loop did not allocate",
            summary["allocations_in_loop"] == 0,
        ),
        ("the clocks were put back", summary["restored"] == true),
    ];
    let mut verdict = Verdict::Done;
    for (claim, _) in claims.iter().filter(|(_, holds)| !holds) {
        writeln!(out, "NOT SO: {claim}")?;
        verdict = Verdict::No;
    }
    Ok(verdict)
}
