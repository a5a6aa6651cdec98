//! The messages, with a fixed capacity for everything.

use crate::board::{self, Clocks};
use crate::masks::GpuMasks;
use crate::mode::PowerMode;
use crate::table::{WORKLOAD_NAME_LEN_MAX, Workload};
use crate::units::{MicroSec, MilliWatt};
use core::fmt::{self, Write as _};
use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

/// Most workloads that a board offers.
pub const OFFERS_MAX: usize = 16;
/// Longest explanation in bytes.
pub const TEXT_LEN_MAX: usize = 200;

/// An explanation for people.
pub type Text = String<TEXT_LEN_MAX>;

/// What `words` says, cut to [`TEXT_LEN_MAX`] bytes at a character's end.
#[must_use]
pub fn text(words: impl fmt::Display) -> Text {
    struct Cut(Text);
    impl fmt::Write for Cut {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            for letter in part.chars() {
                self.0.push(letter).map_err(|_| fmt::Error)?;
            }
            Ok(())
        }
    }
    let mut cut = Cut(Text::new());
    // An error means that it is full: what is there is the answer.
    let _ = write!(cut, "{words}");
    cut.0
}

/// What a workload does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// A training step.
    Train,
    /// Inference.
    Infer,
}

/// What the workstation asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Who are you, and what can be measured? Answered by [`Response::Hello`].
    Hello,
    /// Measure this. Answered by any number of [`Response::Progress`] and one other response.
    Profile(Order),
}

/// One profile to measure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Chosen by the workstation; every response to it bears the same number.
    pub number: u32,
    /// Mode to set.
    pub mode: PowerMode,
    /// Training or inference.
    pub role: Role,
    /// Name of the workload.
    pub workload: String<WORKLOAD_NAME_LEN_MAX>,
    /// Samples of a minibatch.
    pub batch: u16,
}

/// What the board answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "without an allocator there is no box; one response exists at a time"
)]
pub enum Response {
    /// Who it is.
    Hello(Hello),
    /// The profile is under way.
    Progress(Progress),
    /// The profile is done.
    Measured(Measured),
    /// There is no such profile: asking again gives the same answer.
    Refused(No),
    /// It went wrong: asking again may go well.
    Failed(No),
}

/// A release of Jetson Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct L4t {
    /// 36 of 36.4.3.
    pub major: u8,
    /// 4 of 36.4.3.
    pub minor: u8,
    /// 3 of 36.4.3.
    pub patch: u8,
}

/// A workload that can be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Training or inference.
    pub role: Role,
    /// Name and batch sizes.
    pub workload: Workload,
}

/// Who a board is and what can be measured on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Its name in plans, such as `orin-agx`.
    pub board: board::Name,
    /// Its module id, such as `p3701-0005`.
    pub module: String<24>,
    /// Its release; `None` if it does not tell.
    pub l4t: Option<L4t>,
    /// CPU cores.
    pub cores: u8,
    /// CPU clocks that its kernel lists, ascending.
    pub cpu_khz: Clocks,
    /// GPU clocks that its kernel lists, ascending.
    pub gpu_khz: Clocks,
    /// Memory clocks that its kernel lists, ascending.
    pub emc_khz: Clocks,
    /// Whether it counts over-current events; without, profiles cannot be told from throttled ones.
    pub counts_over_current: bool,
    /// Masks of its GPU; a mask that it does not tell is `None`.
    pub gpu_masks: GpuMasks,
    /// Training workloads, then inference, by name.
    pub offers: Vec<Offer, OFFERS_MAX>,
}

/// What a board does for a profile, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Loading the model, the first time it is asked for.
    Load,
    /// Setting the mode.
    Apply,
    /// Running minibatches until times and power are steady.
    Settle,
    /// Measuring.
    Measure,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Load => "loading",
            Self::Apply => "setting clocks",
            Self::Settle => "settling",
            Self::Measure => "measuring",
        })
    }
}

/// How far a profile is. The board sends one when a stage begins and about every second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Of the order.
    pub number: u32,
    /// What it does now.
    pub stage: Stage,
    /// Minibatches measured.
    pub minibatches: u16,
    /// What the rest of the profile is expected to take, in ms. The workstation waits for three times
    /// as long before it gives the board up.
    pub left_ms: u32,
}

/// What a profile showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Of the order.
    pub number: u32,
    /// Median time of a minibatch, at least 1.
    pub time_us: MicroSec,
    /// Interquartile range of the times.
    pub time_spread_us: MicroSec,
    /// Median power of the board while they ran, at least 1.
    pub power_mw: MilliWatt,
    /// Interquartile range of the power samples.
    pub power_spread_mw: MilliWatt,
    /// The mode as the kernel told it before the minibatches.
    pub mode_before: PowerMode,
    /// The mode as the kernel told it after them.
    pub mode_after: PowerMode,
    /// Over-current events between the two; `None` if the board does not count them.
    pub over_current_events: Option<u32>,
    /// Whether a thermal limit held a clock down.
    pub throttled: bool,
    /// Minibatches that the medians are of.
    pub minibatches: u16,
    /// Minibatches that were run before and dropped.
    pub warm_up: u16,
    /// Whether power was steady before measuring began; if not, it was measured all the same.
    pub settled: bool,
}

/// Why a board does not measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// It offers no such workload or batch size.
    Workload,
    /// Its kernel does not list a clock of the mode.
    Mode,
    /// Its power is not known: a sensor is missing or cannot be read.
    Power,
    /// The clocks cannot be set.
    Clocks,
    /// The model cannot be loaded or run.
    Engine,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Workload => "workload",
            Self::Mode => "mode",
            Self::Power => "power sensors",
            Self::Clocks => "clocks",
            Self::Engine => "engine",
        })
    }
}

/// A profile that was not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct No {
    /// Of the order.
    pub number: u32,
    /// For programs.
    pub reason: Reason,
    /// For people.
    pub text: Text,
}

impl fmt::Display for No {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.text)
    }
}
