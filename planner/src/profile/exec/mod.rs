//! `exec:COMMAND`: a board, through a process that runs `fulcrumd profile` here or elsewhere.
//!
//! The process is spoken to over its standard input and output (`fulcrum_plan::link`,
//! `docs/link.md`). One profile is asked for at a time. A link that is lost, and a board that hangs,
//! cost the profile under way and no other: the command is started again a bounded number of times,
//! and then the board counts as lost, so that a journal can go on later.
//!
//! Time decides here when to give a process up, and nothing else: what a search sees is what the
//! board measured (invariant I8).

mod connection;

use crate::profile::{Measurement, ProfileError, ProfileSource, Run};
use crate::workload::{Role, Workload};
use connection::{Connection, Lost};
use fulcrum_plan::link::{self, Hello, Measured, Order, Progress, Request, Response};
use fulcrum_plan::units::Khz;
use fulcrum_plan::{Cell, GpuMasks, PowerMode};
use std::time::{Duration, Instant};

/// How long to wait for a board, and how often to call it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the first answer of a process, and for a sign that it begins a profile.
    pub answer: Duration,
    /// For the rest of a profile, beyond three times what the board expects.
    pub margin: Duration,
    /// For a whole profile.
    pub profile: Duration,
    /// Times in a row that the command is started again.
    pub restarts: u32,
    /// Before the first of these; twice as long before the next.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            margin: Duration::from_secs(10),
            profile: Duration::from_secs(30 * 60),
            restarts: 3,
            pause: Duration::from_secs(1),
        }
    }
}

impl Patience {
    /// How long the rest of a profile may take.
    fn rest(&self, progress: &Progress) -> Duration {
        self.margin + 3 * Duration::from_millis(u64::from(progress.left_ms))
    }
}

/// What a user may want to see while a board works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// How far the profile under way is.
    Progress(Progress),
    /// The profile under way is over.
    Over,
    /// A line that the command wrote to its standard error.
    Said(&'a str),
    /// The profile went wrong and is asked for again.
    Again {
        /// Why.
        reason: &'a str,
        /// Which try this is, from 1.
        attempt: u32,
        /// After how many the board is given up.
        of: u32,
    },
}

/// Told about what happens on the way.
pub type OnNotice = Box<dyn FnMut(Notice<'_>)>;

/// Why a command is no source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It cannot be started, ends, or does not say what a board says.
    #[error(
        "`{command}`: {reason}; it must end in `fulcrumd profile …`: run it by hand, and it must \
         start and wait for input"
    )]
    NoAnswer {
        /// The command.
        command: String,
        /// Why.
        reason: String,
    },
    /// Another board answers.
    #[error("`{command}` reaches a board `{found}`, not a `{wanted}`")]
    Board {
        /// The command.
        command: String,
        /// The board that answers.
        found: String,
        /// The board that was asked for.
        wanted: String,
    },
}

/// A board behind a command.
pub struct Exec {
    command: String,
    patience: Patience,
    on_notice: OnNotice,
    hello: Hello,
    workloads: Vec<Workload>,
    connection: Option<Connection>,
    /// Of the last order.
    number: u32,
}

impl std::fmt::Debug for Exec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exec")
            .field("command", &self.command)
            .field("hello", &self.hello)
            .finish_non_exhaustive()
    }
}

/// How one attempt at a profile ended.
enum Outcome {
    Measured(Measured),
    Refused(String),
    Failed(String),
}

impl Exec {
    /// Starts the command (with `sh -c`) and asks it which board it reaches. `board` is the one that it
    /// has to be, if given.
    ///
    /// # Errors
    /// [`OpenError`]: no answer, or another board.
    pub fn open(
        command: &str,
        board: Option<&str>,
        patience: Patience,
        mut on_notice: OnNotice,
    ) -> Result<Self, OpenError> {
        let connected = connect(command, &patience, &mut on_notice);
        let (connection, hello) = connected.map_err(|Lost(reason)| OpenError::NoAnswer {
            command: command.to_owned(),
            reason,
        })?;
        if let Some(wanted) = board.filter(|wanted| hello.board != *wanted) {
            return Err(OpenError::Board {
                command: command.to_owned(),
                found: hello.board.as_str().to_owned(),
                wanted: wanted.to_owned(),
            });
        }
        Ok(Self {
            command: command.to_owned(),
            patience,
            on_notice,
            workloads: workloads(&hello),
            hello,
            connection: Some(connection),
            number: 0,
        })
    }

    /// What the board said about itself.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// The connection, made anew if the last one was lost.
    fn connected(&mut self) -> Result<&mut Connection, Lost> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let (connection, hello) =
                    connect(&self.command, &self.patience, &mut self.on_notice)?;
                if hello != self.hello {
                    return Err(Lost(format!(
                        "another board answers: {} {}, before {} {}, or it offers other clocks or \
                         workloads",
                        hello.board, hello.module, self.hello.board, self.hello.module
                    )));
                }
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Asks for one profile and waits for its end.
    fn attempt(&mut self, order: &Order) -> Result<Outcome, Lost> {
        let patience = self.patience;
        let begun = Instant::now();
        let mut deadline = begun + patience.answer;
        self.connected()?.send(&Request::Profile(order.clone()))?;
        loop {
            let connection = self.connection.as_mut().ok_or_else(Lost::closed)?;
            match connection.receive(deadline, &mut self.on_notice)? {
                Response::Progress(progress) if progress.number == order.number => {
                    let rest = Instant::now() + patience.rest(&progress);
                    deadline = rest.min(begun + patience.profile);
                    (self.on_notice)(Notice::Progress(progress));
                }
                Response::Measured(measured) if measured.number == order.number => {
                    return Ok(Outcome::Measured(measured));
                }
                Response::Refused(no) if no.number == order.number => {
                    return Ok(Outcome::Refused(no.to_string()));
                }
                Response::Failed(no) if no.number == order.number => {
                    return Ok(Outcome::Failed(no.to_string()));
                }
                // An answer to an order that was given up.
                _ => {}
            }
        }
    }

    fn measure(&mut self, run: &Run) -> Result<Measurement, ProfileError> {
        let order = self.order(run).ok_or_else(|| ProfileError::NotMeasured {
            run: run.clone(),
            source_name: self.identity(),
        })?;
        let of = self.patience.restarts;
        let mut attempt = 0;
        loop {
            let (reason, lost) = match self.attempt(&order) {
                Ok(Outcome::Measured(measured)) => return Ok(measurement(run, &measured)),
                Ok(Outcome::Refused(reason)) => {
                    let run = run.clone();
                    return Err(ProfileError::Refused { run, reason });
                }
                Ok(Outcome::Failed(reason)) => (reason, false),
                Err(Lost(reason)) => {
                    self.connection = None;
                    (reason, true)
                }
            };
            if attempt == of {
                let run = run.clone();
                return Err(match lost {
                    true => ProfileError::Lost { reason },
                    false => ProfileError::Refused { run, reason },
                });
            }
            attempt += 1;
            let reason = &reason;
            (self.on_notice)(Notice::Again {
                reason,
                attempt,
                of,
            });
            std::thread::sleep(self.patience.pause * (1 << (attempt - 1).min(8)));
        }
    }

    fn order(&mut self, run: &Run) -> Option<Order> {
        self.number = self.number.wrapping_add(1);
        Some(Order {
            number: self.number,
            mode: run.mode,
            role: match run.role {
                Role::Train => link::Role::Train,
                Role::Infer => link::Role::Infer,
            },
            workload: run.workload.as_str().try_into().ok()?,
            batch: run.batch,
        })
    }
}

/// Starts the command and asks who answers.
fn connect(
    command: &str,
    patience: &Patience,
    on_notice: &mut OnNotice,
) -> Result<(Connection, Hello), Lost> {
    let deadline = Instant::now() + patience.answer;
    let mut connection = Connection::start(command)?;
    connection.send(&Request::Hello)?;
    loop {
        if let Response::Hello(hello) = connection.receive(deadline, on_notice)? {
            return Ok((connection, hello));
        }
    }
}

/// What a board offers, sorted.
fn workloads(hello: &Hello) -> Vec<Workload> {
    let mut workloads: Vec<Workload> = hello
        .offers
        .iter()
        .map(|offer| Workload {
            role: match offer.role {
                link::Role::Train => Role::Train,
                link::Role::Infer => Role::Infer,
            },
            name: offer.workload.name.as_str().to_owned(),
            batches: offer.workload.batches.to_vec(),
        })
        .collect();
    workloads.sort();
    workloads
}

/// Both readings of the clocks have to be the mode; one that is not is the one to judge by (I7).
fn measurement(run: &Run, measured: &Measured) -> Measurement {
    let before_is_right = measured.mode_before == run.mode;
    Measurement {
        cell: Cell {
            time_us: measured.time_us,
            power_mw: measured.power_mw,
        },
        mode_read_back: match before_is_right {
            true => measured.mode_after,
            false => measured.mode_before,
        },
        over_current_events: measured.over_current_events.unwrap_or(0),
        thermally_throttled: measured.throttled,
    }
}

impl ProfileSource for Exec {
    fn board(&self) -> &str {
        &self.hello.board
    }

    /// Not the command: the same board may be reached in another way tomorrow. With other masks it is
    /// another board: its measurements do not belong into the same journal.
    fn identity(&self) -> String {
        let Hello { board, module, .. } = &self.hello;
        let mut identity = format!("exec {board} {module}");
        if self.hello.gpu_masks != GpuMasks::default() {
            identity += &format!(" {}", self.hello.gpu_masks);
        }
        identity
    }

    fn workloads(&self) -> &[Workload] {
        &self.workloads
    }

    fn modes(&self, _workloads: &[Workload]) -> Vec<PowerMode> {
        let hello = &self.hello;
        let mut modes = Vec::new();
        let mut of_cores_and_cpu = |cores: u8, cpu_khz: Khz| {
            for &gpu_khz in &hello.gpu_khz {
                modes.extend(hello.emc_khz.iter().map(|&emc_khz| PowerMode {
                    cores,
                    cpu_khz,
                    gpu_khz,
                    emc_khz,
                }));
            }
        };
        for cores in 1..=hello.cores {
            for &cpu_khz in &hello.cpu_khz {
                of_cores_and_cpu(cores, cpu_khz);
            }
        }
        modes
    }

    fn gpu_masks(&self) -> GpuMasks {
        self.hello.gpu_masks
    }

    fn profile(&mut self, run: &Run) -> Result<Measurement, ProfileError> {
        let outcome = self.measure(run);
        (self.on_notice)(Notice::Over);
        outcome
    }
}

#[cfg(test)]
mod tests;
