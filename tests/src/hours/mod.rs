//! Hours of board time on measured grids: the loop, guard and control of `fulcrumd` under a virtual clock.
//!
//! A plan holds what was measured in every mode; the virtual [`board`] replays these times and powers, and does
//! to them what real boards do ([`faults`]). [`trace`] draws an hour from a seed, [`run()`] lives it, and [`bounds`]
//! says what could have been done by somebody who knew it in advance. The same seed gives the same hour on
//! every machine.

pub mod board;
pub mod bounds;
pub mod faults;
pub mod run;
pub mod table;
pub mod trace;

pub use run::{Outcome, run};
pub use trace::Trace;

/// A second on the virtual clock.
pub const SECOND_NS: u64 = 1_000_000_000;
/// How long a trace lasts.
pub const HOUR_NS: u64 = 3_600 * SECOND_NS;
/// Time between two readings of power, as in `fulcrumd`.
pub const READING_NS: u64 = SECOND_NS / 10;
