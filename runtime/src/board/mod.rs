//! Board control: find out what board this is, set exactly what was asked, leave no trace.
//!
//! [`Jetson`] is the whole of it for a caller:
//!
//! ```no_run
//! # use fulcrum_plan::{PowerMode, units::Khz};
//! use fulcrum_runtime::board::Jetson;
//! # let mode = PowerMode { cores: 4, cpu_khz: Khz(1_113_600), gpu_khz: Khz(408_000), emc_khz: Khz(2_133_000) };
//! let mut board = Jetson::discover(std::path::Path::new("/"))?;
//! board.recover()?; // put back what a killed process left
//! board.apply(&mode)?;
//! let drift = board.verify(&mode)?;
//! board.restore()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - Discovery reads and opens everything once; afterwards nothing here formats a path or allocates.
//! - [`Jetson::apply`] either sets the mode or ends in the clocks that were there before (I6).
//! - The clocks that were there at the first change are put back by [`Jetson::restore`], by `Drop`
//!   (so also by a panic), and, after SIGKILL, by the next process out of a durable record.
//! - What cannot be read is `None`, never 0.
//!
//! Inside: [`node`] names every file that is ever written; [`controls`] is the seam to the kernel;
//! `range`, `cpu`, `gpu` and `emc` know one domain each; `change` knows the order.

pub mod controls;
pub mod effective;
pub mod node;
pub mod number;
pub mod overcurrent;
pub mod power;
pub mod record;
pub mod settings;
pub mod settle;
pub mod thermal;
pub mod topology;
pub mod watch;

mod change;
mod cpu;
mod discover;
mod emc;
mod gpu;
mod identity;
mod jetson;
mod range;
mod reading;
mod shipped;
mod stale;
mod startup;
mod sysfs;

pub use controls::Controls;

pub use emc::{EmcLock, EmcSetting};
pub use identity::{Identity, L4t};
pub use jetson::{ApplyError, Effective, EmcPolicy, Jetson, Options, RestoreError};
pub use node::{Node, NodeError};
pub use range::Range;
pub use settings::{Drift, Settings};
pub use shipped::shipped;
pub use startup::DiscoverError;
pub use sysfs::Sysfs;
pub use topology::Topology;
