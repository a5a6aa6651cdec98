//! `fulcrum report`: a plan as one page for people.

use crate::plan_file;
use crate::report::Subject;
use crate::report::budgets::Wishes;
use crate::report::journal::Journal;
use crate::report::page::page;
use crate::verdict::Verdict;
use anyhow::{Context, anyhow, bail};
use fulcrum_plan::durable::replace_file;
use fulcrum_plan::units::{MicroSec, MilliRps};
use fulcrum_plan::{Board, PlanTable};
use fulcrum_planner::profile::journal::{self, Header, Record};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Options of `fulcrum report`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The plan files, one section of the page each
    #[arg(required = true)]
    plans: Vec<PathBuf>,
    /// Journal of a plan's search, to show what was spent; once per plan, in any order
    #[arg(long, value_name = "FILE")]
    journal: Vec<PathBuf>,
    /// Latency budget in ms that the page asks about [default: a round one that suits each plan]
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    latency_ms: Option<f64>,
    /// Requests per second that the page asks about, up to 6 times [default: four that suit each plan]
    #[arg(long, value_name = "PER_S", allow_negative_numbers = true)]
    rate: Vec<f64>,
    /// Board description file (.toml), for plans of a board that this build does not know
    #[arg(long, value_name = "NAME|FILE")]
    board: Option<String>,
    /// The page to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Most arrival rates: more columns do not fit a phone.
const RATES_MAX: usize = 6;

impl Arguments {
    fn wishes(&self) -> anyhow::Result<Wishes> {
        if self.rate.len() > RATES_MAX {
            bail!(
                "--rate: given {} times; allowed are {RATES_MAX}",
                self.rate.len()
            );
        }
        let latency = |ms: f64| {
            let latency_us = MicroSec::budget_ms(ms).filter(|latency_us| latency_us.0 > 0);
            latency_us
                .with_context(|| format!("--latency-ms {ms}: allowed are 0.001 to 4000000 ms"))
        };
        let rate = |rate: &f64| {
            let allowed = "0.001 to 4000000 requests per second";
            let milli = MilliRps::per_second(*rate).filter(|milli| milli.0 > 0);
            milli.with_context(|| format!("--rate {rate}: allowed are {allowed}"))
        };
        Ok(Wishes {
            latency_us: self.latency_ms.map(latency).transpose()?,
            rates: self.rate.iter().map(rate).collect::<anyhow::Result<_>>()?,
        })
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

fn subject(number: usize, path: &Path, plan: PlanTable, boards: &[Board]) -> Subject {
    let board = boards.iter().find(|board| board.name == plan.board);
    Subject {
        id: format!("plan{number}"),
        file: file_name(path),
        board_title: board
            .map_or(plan.board.as_str(), |board| &board.title)
            .to_owned(),
        plan,
        journal: None,
    }
}

/// Gives a journal to the plans whose measurements it holds.
fn assign(
    subjects: &mut [Subject],
    path: &Path,
    header: &Header,
    records: &[Record],
) -> anyhow::Result<()> {
    let mut refusals = Vec::new();
    let mut is_used = false;
    for subject in subjects {
        match Journal::of(&subject.plan, header, records.to_vec()) {
            Ok(journal) => {
                subject.journal = Some(journal);
                is_used = true;
            }
            Err(reason) => refusals.push((subject.file.clone(), reason)),
        }
    }
    if is_used {
        return Ok(());
    }
    let reasons: Vec<String> = refusals
        .iter()
        .map(|(file, reason)| format!("for {file}: {reason:#}"))
        .collect();
    Err(anyhow!(reasons.join("\n"))).with_context(|| format!("--journal {}", path.display()))
}

/// Runs the command.
///
/// # Errors
/// A file that cannot be read or is no good plan, a journal that belongs to none of the plans, an option
/// out of range, a page that cannot be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let wishes = arguments.wishes()?;
    let boards = plan_file::candidates(arguments.board.as_deref())?;
    let mut subjects = Vec::new();
    for (number, path) in (1..).zip(&arguments.plans) {
        let plan = plan_file::read_good(path, &boards)?;
        subjects.push(subject(number, path, plan, &boards));
    }
    for path in &arguments.journal {
        let (header, records) = journal::read(path).context("--journal")?;
        assign(&mut subjects, path, &header, &records)?;
    }
    let page = page(&subjects, &wishes);
    replace_file(&arguments.out, page.as_bytes())
        .with_context(|| format!("--out {}", arguments.out.display()))?;
    writeln!(
        io::stdout(),
        "{}: {} kB",
        arguments.out.display(),
        page.len().div_ceil(1000)
    )?;
    Ok(Verdict::Done)
}
