//! The command line of `fulcrumd`, read by hand: the runtime carries no parser.
//!
//! Every error names the option, the value, what is allowed, and where to read on.

mod help;
mod inspect;
mod load;
mod profile;
mod served;
mod status;
mod training;

pub(crate) use help::HELP;
pub(crate) use inspect::{Capture, Doctor};
pub(crate) use load::{Load, Times};
pub(crate) use profile::Profile;
pub(crate) use served::Served;
pub(crate) use status::Status;
pub(crate) use training::{Judges, Validate};

use crate::Failure;
use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};
use fulcrum_runtime::arrivals::Process;
use fulcrum_runtime::board::power::RailNames;
use fulcrum_runtime::checkpoint::Every;
use fulcrum_runtime::engine::Provider;
use fulcrum_runtime::schedule::{Overload, Policy};
use fulcrum_runtime::status::http::Address;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A command line that is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (see `fulcrumd --help`)", self.0)
    }
}

impl std::error::Error for UsageError {}

fn usage<T>(message: impl Into<String>) -> Result<T, UsageError> {
    Err(UsageError(message.into()))
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    /// Print the help.
    Help,
    /// Print the version.
    Version,
    /// Work.
    Run(Box<Run>),
    /// Serve measurements.
    Profile(Box<Profile>),
    /// Send requests.
    Load(Load),
    /// Say what a running `fulcrumd` does.
    Status(Status),
    /// Take a plan.
    Accept(Accept),
    /// Put back the clocks that a killed process left.
    Restore(BoardOptions),
    /// Examine the board.
    Doctor(Doctor),
    /// Copy the board's files.
    Capture(Capture),
}

/// Where the plan comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PlanSource {
    /// A file.
    File(PathBuf),
    /// A folder with two slots.
    Folder(PathBuf),
}

/// Which board, and where its files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BoardOptions {
    /// `--sysfs-root`.
    pub(crate) sysfs_root: PathBuf,
    /// `--state-dir`.
    pub(crate) state_dir: Option<PathBuf>,
    /// `--board`.
    pub(crate) name: Option<String>,
    /// `--power-rails`.
    pub(crate) power_rails: Option<RailNames>,
}

impl BoardOptions {
    /// Whether the board that was found is the one of `--board`.
    ///
    /// # Errors
    /// It is another.
    pub(crate) fn check(&self, found: &str) -> Result<(), Failure> {
        match &self.name {
            Some(name) if name != found => Err(Failure::no(format!(
                "this board is {found}, not {name} as --board asks"
            ))),
            _ => Ok(()),
        }
    }
}

/// What to do on a GPU whose power-gating masks are not those of the plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OtherMasks {
    /// Not run: times and powers of the plan are those of another GPU.
    #[default]
    Refuse,
    /// Run, and say so.
    Warn,
}

/// Options of `fulcrumd accept`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accept {
    /// `--plan-dir`.
    pub(crate) plan_dir: PathBuf,
    /// The board.
    pub(crate) board: BoardOptions,
}

/// The latency budget and the rate it holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// `--latency-ms`.
    pub(crate) latency_us: MicroSec,
    /// `--rate`.
    pub(crate) rate: MilliRps,
}

/// Options of `fulcrumd run`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    /// `--plan` or `--plan-dir`.
    pub(crate) plan: PlanSource,
    /// `--power`.
    pub(crate) power_mw: MilliWatt,
    /// `--latency-ms` and `--rate`.
    pub(crate) service: Option<Service>,
    /// The first `--infer` and `--listen`.
    pub(crate) infer: Option<Served>,
    /// The second ones: for the model that is not urgent.
    pub(crate) bulk: Option<Served>,
    /// `--train`.
    pub(crate) train: Option<PathBuf>,
    /// `--data`.
    pub(crate) data: Option<PathBuf>,
    /// `--status`.
    pub(crate) status: Option<Address>,
    /// `--held-out`.
    pub(crate) held_out: Option<PathBuf>,
    /// `--lr`.
    pub(crate) learning_rate: f32,
    /// `--checkpoint`.
    pub(crate) checkpoint: Option<PathBuf>,
    /// `--checkpoint-every`.
    pub(crate) checkpoint_every: Every,
    /// `--validate`.
    pub(crate) validate: Option<Validate>,
    /// `--intra-op-threads`.
    pub(crate) intra_op_threads: u16,
    /// `--provider`.
    pub(crate) providers: Vec<Provider>,
    /// `--engine-memory-mib`.
    pub(crate) engine_memory_mib: Option<u16>,
    /// `--realtime`.
    pub(crate) realtime: bool,
    /// `--pin`.
    pub(crate) pin: bool,
    /// `--arrivals`.
    pub(crate) arrivals: Process,
    /// `--overload` and `--train-share`.
    pub(crate) policy: Policy,
    /// `--seed`.
    pub(crate) seed: u64,
    /// `--duration-s`.
    pub(crate) duration: Option<Duration>,
    /// `--onnxruntime`.
    pub(crate) onnxruntime: Option<PathBuf>,
    /// `--json`.
    pub(crate) json: bool,
    /// `--other-masks`.
    pub(crate) other_masks: OtherMasks,
    /// The board.
    pub(crate) board: BoardOptions,
}

/// Options with a value, and switches, as given.
struct Given {
    command: &'static str,
    options: Vec<(String, Option<OsString>)>,
}

const SWITCHES: [&str; 4] = ["--json", "--prometheus", "--realtime", "--pin"];

/// Command and option of what may be given more than once.
const REPEATABLE: [(&str, &str); 4] = [
    ("profile", "--train"),
    ("profile", "--infer"),
    ("run", "--infer"),
    ("run", "--listen"),
];

impl Given {
    /// Reads `--name value`, `--name=value` and switches; refuses what the command does not have.
    fn read(
        command: &'static str,
        known: &[&str],
        arguments: impl Iterator<Item = OsString>,
    ) -> Result<Self, UsageError> {
        let mut options: Vec<(String, Option<OsString>)> = Vec::new();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let Some(text) = argument.to_str().filter(|text| text.starts_with("--")) else {
                return usage(format!(
                    "`{}` is not an option of `fulcrumd {command}`",
                    argument.display()
                ));
            };
            let (name, attached) = match text.split_once('=') {
                Some((name, value)) => (name, Some(OsString::from(value))),
                None => (text, None),
            };
            if !known.contains(&name) {
                return usage(format!("unknown option `{name}` of `fulcrumd {command}`"));
            }
            let may_repeat = REPEATABLE.contains(&(command, name));
            if !may_repeat && options.iter().any(|(given, _)| given == name) {
                return usage(format!("`{name}` is given twice"));
            }
            let value = match (SWITCHES.contains(&name), attached) {
                (true, None) => None,
                (true, Some(_)) => return usage(format!("`{name}` takes no value")),
                (false, Some(value)) => Some(value),
                (false, None) => match arguments.next() {
                    Some(value) => Some(value),
                    None => return usage(format!("`{name}` needs a value")),
                },
            };
            options.push((name.to_owned(), value));
        }
        Ok(Self { command, options })
    }

    fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(given, _)| given == name)
    }

    fn value(&self, name: &str) -> Option<&OsString> {
        let found = self.options.iter().find(|(given, _)| given == name);
        found.and_then(|(_, value)| value.as_ref())
    }

    /// Every value of an option that may be given more than once.
    fn values(&self, name: &str) -> impl Iterator<Item = &OsString> {
        let found = self.options.iter().filter(move |(given, _)| given == name);
        found.filter_map(|(_, value)| value.as_ref())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.value(name).map(PathBuf::from)
    }

    /// The value that `read` makes of the text, or an error that names what is allowed.
    fn parsed<T>(
        &self,
        name: &str,
        allowed: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, UsageError> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        match value.to_str().and_then(read) {
            Some(parsed) => Ok(Some(parsed)),
            None => usage(format!("{name} {}: allowed is {allowed}", value.display())),
        }
    }

    /// A decimal number in a range.
    fn number(&self, name: &str, low: f64, high: f64) -> Result<Option<f64>, UsageError> {
        self.parsed(name, &format!("a number from {low} to {high}"), |text| {
            let number = text.parse::<f64>().ok()?;
            (low..=high).contains(&number).then_some(number)
        })
    }

    fn intra_op_threads(&self) -> Result<u16, UsageError> {
        let allowed = "a whole number from 1 to 64";
        let count = self.parsed("--intra-op-threads", allowed, |text| {
            text.parse().ok().filter(|count| (1..=64).contains(count))
        })?;
        Ok(count.unwrap_or(1))
    }

    fn providers(&self) -> Result<Vec<Provider>, UsageError> {
        let allowed =
            "a list of cpu, cuda and tensorrt, each at most once, with commas between them";
        let providers = self.parsed("--provider", allowed, Provider::list)?;
        Ok(providers.unwrap_or_else(|| vec![Provider::Cpu]))
    }

    fn arrivals(&self) -> Result<Option<Process>, UsageError> {
        self.parsed(
            "--arrivals",
            "constant, poisson, diurnal, bursts or dying",
            Process::from_name,
        )
    }

    fn seed(&self) -> Result<u64, UsageError> {
        let allowed = "a whole number from 0 to 2^64 - 1";
        let seed = self.parsed("--seed", allowed, |text| text.parse().ok())?;
        Ok(seed.unwrap_or(1))
    }

    fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, UsageError> {
        match value {
            Some(value) => Ok(value),
            None => usage(format!("`fulcrumd {}` needs {name}", self.command)),
        }
    }
}

const RUN_OPTIONS: [&str; 33] = [
    "--plan",
    "--plan-dir",
    "--power",
    "--latency-ms",
    "--rate",
    "--infer",
    "--train",
    "--data",
    "--held-out",
    "--listen",
    "--status",
    "--lr",
    "--checkpoint",
    "--checkpoint-every",
    "--validate",
    "--validate-every",
    "--intra-op-threads",
    "--provider",
    "--engine-memory-mib",
    "--realtime",
    "--pin",
    "--arrivals",
    "--overload",
    "--train-share",
    "--seed",
    "--duration-s",
    "--sysfs-root",
    "--state-dir",
    "--board",
    "--power-rails",
    "--other-masks",
    "--onnxruntime",
    "--json",
];

const ACCEPT_OPTIONS: [&str; 3] = ["--plan-dir", "--sysfs-root", "--board"];
/// Where the service of the package looks for a plan.
const PLAN_DIR: &str = "/var/lib/fulcrum/plans";

const RESTORE_OPTIONS: [&str; 2] = ["--sysfs-root", "--state-dir"];

/// Reads a command line without the program's name.
///
/// # Errors
/// What is not understood, out of range, missing, or does not go together.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut arguments = arguments.peekable();
    let Some(command) = arguments.next() else {
        return usage("no command given");
    };
    let wants_help = |argument: &OsString| argument == "--help" || argument == "-h";
    match command.to_str() {
        Some("--help" | "-h" | "help") => return Ok(Command::Help),
        Some("--version" | "-V" | "version") => return Ok(Command::Version),
        _ => {}
    }
    let rest: Vec<OsString> = arguments.collect();
    if rest.iter().any(wants_help) {
        return Ok(Command::Help);
    }
    match command.to_str() {
        Some("run") => {
            let given = Given::read("run", &RUN_OPTIONS, rest.into_iter())?;
            Ok(Command::Run(Box::new(run(&given)?)))
        }
        Some("profile") => {
            let given = Given::read("profile", &profile::OPTIONS, rest.into_iter())?;
            Ok(Command::Profile(Box::new(profile::profile(&given)?)))
        }
        Some("load") => {
            let given = Given::read("load", &load::OPTIONS, rest.into_iter())?;
            Ok(Command::Load(load::load(&given)?))
        }
        Some("status") => {
            let given = Given::read("status", &status::OPTIONS, rest.into_iter())?;
            Ok(Command::Status(status::status(&given)?))
        }
        Some("accept") => {
            let given = Given::read("accept", &ACCEPT_OPTIONS, rest.into_iter())?;
            Ok(Command::Accept(Accept {
                plan_dir: given.path("--plan-dir").unwrap_or_else(|| PLAN_DIR.into()),
                board: board(&given)?,
            }))
        }
        Some("restore") => {
            let given = Given::read("restore", &RESTORE_OPTIONS, rest.into_iter())?;
            Ok(Command::Restore(board(&given)?))
        }
        Some("doctor") => {
            let given = Given::read("doctor", &inspect::DOCTOR_OPTIONS, rest.into_iter())?;
            Ok(Command::Doctor(inspect::doctor(&given)?))
        }
        Some("capture") => {
            let given = Given::read("capture", &inspect::CAPTURE_OPTIONS, rest.into_iter())?;
            Ok(Command::Capture(inspect::capture(&given)?))
        }
        _ => usage(format!("unknown command `{}`", command.display())),
    }
}

fn board(given: &Given) -> Result<BoardOptions, UsageError> {
    Ok(BoardOptions {
        sysfs_root: given.path("--sysfs-root").unwrap_or_else(|| "/".into()),
        state_dir: given.path("--state-dir"),
        name: given.parsed("--board", "a board's name, such as orin-agx", |text| {
            (!text.is_empty()).then(|| text.to_owned())
        })?,
        power_rails: given.parsed(
            "--power-rails",
            "a list of at most 6 rails, each once, with commas between them, as `fulcrumd doctor` names them",
            rails,
        )?,
    })
}

fn rails(list: &str) -> Option<RailNames> {
    let mut rails = RailNames::new();
    for name in list.split(',') {
        let is_new = !name.is_empty() && rails.iter().all(|rail| rail != name);
        let name = is_new.then(|| name.try_into().ok())??;
        rails.push(name).ok()?;
    }
    Some(rails)
}

fn other_masks(name: &str) -> Option<OtherMasks> {
    match name {
        "refuse" => Some(OtherMasks::Refuse),
        "warn" => Some(OtherMasks::Warn),
        _ => None,
    }
}

fn run(given: &Given) -> Result<Run, UsageError> {
    let plan = match (given.path("--plan"), given.path("--plan-dir")) {
        (Some(file), None) => PlanSource::File(file),
        (None, Some(folder)) => PlanSource::Folder(folder),
        (None, None) => return usage("`fulcrumd run` needs --plan FILE or --plan-dir DIR"),
        (Some(_), Some(_)) => return usage("give --plan or --plan-dir, not both"),
    };
    let power_w = given.number("--power", 0.1, 1000.0)?;
    let power_w = given.required("--power W", power_w)?;
    let [infer, bulk] = served::served(given)?;
    let options = Run {
        plan,
        power_mw: given.required("--power W", MilliWatt::budget_w(power_w))?,
        service: service(given)?,
        infer,
        bulk,
        train: given.path("--train"),
        data: given.path("--data"),
        status: given.parsed("--status", status::ALLOWED, Address::read)?,
        held_out: given.path("--held-out"),
        learning_rate: learning_rate(given)?,
        checkpoint: given.path("--checkpoint"),
        checkpoint_every: training::checkpoint_every(given)?,
        validate: training::validate(given)?,
        intra_op_threads: given.intra_op_threads()?,
        providers: given.providers()?,
        engine_memory_mib: engine_memory_mib(given)?,
        realtime: given.has("--realtime"),
        pin: given.has("--pin"),
        arrivals: given.arrivals()?.unwrap_or(Process::Constant),
        policy: policy(given)?,
        seed: given.seed()?,
        duration: given
            .number("--duration-s", 0.1, 31_536_000.0)?
            .map(Duration::from_secs_f64),
        onnxruntime: given.path("--onnxruntime"),
        json: given.has("--json"),
        other_masks: given
            .parsed("--other-masks", "refuse or warn", other_masks)?
            .unwrap_or_default(),
        board: board(given)?,
    };
    if given.has("--checkpoint-every") && options.checkpoint.is_none() {
        return usage("--checkpoint-every needs --checkpoint FILE");
    }
    check_together(&options)?;
    Ok(options)
}

fn service(given: &Given) -> Result<Option<Service>, UsageError> {
    let latency_ms = given.number("--latency-ms", 0.1, 600_000.0)?;
    let rate = given.number("--rate", 0.001, 1_000_000.0)?;
    match (
        latency_ms.and_then(MicroSec::budget_ms),
        rate.and_then(MilliRps::per_second),
    ) {
        (None, None) => Ok(None),
        (Some(latency_us), Some(rate)) => Ok(Some(Service { latency_us, rate })),
        (Some(_), None) => usage("--latency-ms needs --rate: requests per second"),
        (None, Some(_)) => usage("--rate needs --latency-ms: the latency budget"),
    }
}

fn learning_rate(given: &Given) -> Result<f32, UsageError> {
    let rate = given.parsed("--lr", "a number above 0, at most 10", |text| {
        let rate = text.parse::<f32>().ok()?;
        (rate > 0.0 && rate <= 10.0).then_some(rate)
    })?;
    Ok(rate.unwrap_or(0.05))
}

fn engine_memory_mib(given: &Given) -> Result<Option<u16>, UsageError> {
    let allowed = "a whole number from 1 to 2047";
    given.parsed("--engine-memory-mib", allowed, |text| {
        text.parse().ok().filter(|mib| (1..=2047).contains(mib))
    })
}

fn policy(given: &Given) -> Result<Policy, UsageError> {
    let overload = given.parsed(
        "--overload",
        "reject-newest, drop-late or answer-late",
        overload,
    )?;
    let percent = given.parsed(
        "--train-share",
        "a whole number from 0 to 90, in per cent",
        |text| {
            let percent = text.parse::<u16>().ok()?;
            (percent <= 90).then_some(percent)
        },
    )?;
    Ok(Policy {
        overload: overload.unwrap_or_default(),
        train_share_per_mille: 10 * percent.unwrap_or(0),
    })
}

fn overload(name: &str) -> Option<Overload> {
    match name {
        "reject-newest" => Some(Overload::RejectNewest),
        "drop-late" => Some(Overload::DropLate),
        "answer-late" => Some(Overload::AnswerLate),
        _ => None,
    }
}

/// Options that need each other.
fn check_together(options: &Run) -> Result<(), UsageError> {
    if options.infer.is_some() && options.service.is_none() {
        return usage("--infer needs --latency-ms and --rate");
    }
    let model = options.infer.as_ref().map(|_| "--infer");
    let model = model.or(options.train.as_ref().map(|_| "--train"));
    match model {
        Some(model) if options.data.is_none() => usage(format!("{model} needs --data FILE")),
        None if options.data.is_some() => usage("--data needs --infer or --train"),
        None if options.held_out.is_some() => usage("--held-out needs --data"),
        _ if options.policy.train_share_per_mille > 0 && options.train.is_none() => {
            usage("--train-share needs --train")
        }
        _ if options.checkpoint.is_some() && options.train.is_none() => {
            usage("--checkpoint needs --train")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn parsed(line: &str) -> Result<Command, UsageError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    pub(super) fn message(line: &str) -> String {
        parsed(line).unwrap_err().to_string()
    }

    fn run_of(line: &str) -> Run {
        match parsed(line) {
            Ok(Command::Run(run)) => *run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_full_command_line_is_read() {
        let run = run_of(
            "run --plan-dir d --power 30 --latency-ms=500 --rate 60 --infer m.onnx --train s.onnx \
             --data r.bin --lr 0.1 --intra-op-threads 2 --arrivals poisson --seed 9 --duration-s 1.5 \
             --sysfs-root /tree --overload drop-late --train-share 20 --json --other-masks warn \
             --power-rails VDD_GPU_SOC,VDD_CPU_CV",
        );
        assert_eq!(run.plan, PlanSource::Folder("d".into()));
        assert_eq!(run.power_mw, MilliWatt(30_000));
        let service = run.service.unwrap();
        assert_eq!(service.latency_us, MicroSec(500_000));
        assert_eq!(service.rate, MilliRps(60_000));
        assert_eq!(run.arrivals, Process::Poisson);
        assert_eq!(
            run.policy,
            Policy {
                overload: Overload::DropLate,
                train_share_per_mille: 200,
            }
        );
        assert_eq!(run.duration, Some(Duration::from_millis(1500)));
        assert_eq!((run.seed, run.intra_op_threads, run.json), (9, 2, true));
        assert_eq!(run.board.sysfs_root, PathBuf::from("/tree"));
        assert_eq!(run.other_masks, OtherMasks::Warn);
        assert_eq!(
            run.board.power_rails.unwrap(),
            ["VDD_GPU_SOC", "VDD_CPU_CV"]
        );
    }

    #[test]
    fn defaults_are_those_of_the_help() {
        let run = run_of("run --plan x.plan --power 30");
        assert_eq!(run.board.sysfs_root, PathBuf::from("/"));
        assert_eq!(run.board.power_rails, None);
        assert_eq!(run.other_masks, OtherMasks::Refuse);
        assert_eq!((run.seed, run.intra_op_threads), (1, 1));
        assert_eq!((run.service, run.duration, run.json), (None, None, false));
        for option in RUN_OPTIONS {
            assert!(HELP.contains(option), "{option}");
        }
    }

    #[test]
    fn every_value_out_of_range_names_the_option_the_value_and_the_range() {
        for (option, value, range) in [
            ("--power", "0", "0.1 to 1000"),
            ("--power", "NaN", "0.1 to 1000"),
            ("--power", "much", "0.1 to 1000"),
            ("--latency-ms", "-1", "0.1 to 600000"),
            ("--rate", "0", "0.001 to 1000000"),
            ("--lr", "11", "above 0, at most 10"),
            ("--intra-op-threads", "0", "1 to 64"),
            ("--provider", "gpu", "cpu, cuda and tensorrt"),
            ("--arrivals", "bursty", "constant, poisson"),
            (
                "--overload",
                "panic",
                "reject-newest, drop-late or answer-late",
            ),
            ("--train-share", "91", "a whole number from 0 to 90"),
            ("--seed", "-4", "0 to 2^64 - 1"),
            ("--duration-s", "inf", "0.1 to 31536000"),
            ("--other-masks", "write", "refuse or warn"),
            ("--power-rails", "VDD_IN,VDD_IN", "each once, with commas"),
            ("--power-rails", "a,b,c,d,e,f,g", "at most 6 rails"),
        ] {
            let rest = if option == "--power" {
                ""
            } else {
                "--power 30 "
            };
            let message = message(&format!("run --plan p {rest}{option} {value}"));
            for part in [option, value, range, "--help"] {
                assert!(message.contains(part), "{message}");
            }
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (line, part) in [
            ("", "no command"),
            ("fly", "unknown command `fly`"),
            ("run --power 30", "--plan FILE or --plan-dir DIR"),
            ("run --plan p --plan-dir d --power 30", "not both"),
            ("run --plan p", "needs --power"),
            ("run --plan p --power", "`--power` needs a value"),
            ("run --plan p --power 3 --power 4", "given twice"),
            ("run --plan p --power 3 --fast", "unknown option `--fast`"),
            ("run --plan p --power 3 now", "`now` is not an option"),
            ("run --plan p --power 3 --json=1", "takes no value"),
            (
                "run --plan p --power 3 --rate 6",
                "--rate needs --latency-ms",
            ),
            (
                "run --plan p --power 3 --engine-memory-mib 2048",
                "from 1 to 2047",
            ),
            (
                "run --plan p --power 3 --latency-ms 6",
                "--latency-ms needs --rate",
            ),
            (
                "run --plan p --power 3 --infer m",
                "--infer needs --latency-ms",
            ),
            ("run --plan p --power 3 --train m", "--train needs --data"),
            ("run --plan p --power 3 --data m", "--data needs"),
            (
                "run --plan p --power 3 --checkpoint c",
                "--checkpoint needs --train",
            ),
            (
                "run --plan p --power 3 --train-share 9",
                "--train-share needs --train",
            ),
            ("restore --power 3", "unknown option `--power`"),
            ("accept --plan x", "unknown option `--plan`"),
        ] {
            assert!(message(line).contains(part), "{line}: {}", message(line));
        }
    }

    #[test]
    fn help_and_version_need_nothing_else() {
        assert_eq!(parsed("--help"), Ok(Command::Help));
        assert_eq!(parsed("run --help"), Ok(Command::Help));
        assert_eq!(parsed("version"), Ok(Command::Version));
    }
}
