//! The plan table: the one thing that Fulcrum's workstation and its boards share.
//!
//! A plan is a small table of power modes that were **observed** on a board, each with the time and
//! the power of the workloads that were measured in it. This crate holds everything both sides must
//! agree on:
//!
//! - [`units`]: integers with their unit in the type (kHz, mW, µs, thousandths of a request per second);
//! - [`mode`], [`board`] and [`masks`]: what a power mode is, which clocks a board has, which parts of its GPU
//!   are off;
//! - [`table`]: the plan in memory, with a fixed capacity for everything;
//! - [`check`]: one named rule per invariant of a plan;
//! - [`wire`]: the bytes (frame, postcard payload, CRC-32), see `docs/plan-format.md`;
//! - [`problem`]: the formulas of the optimization problem, here and nowhere else;
//! - [`select`]: the look-up that turns a budget into a row of the table;
//! - [`link`]: what a workstation and a board say to each other while modes are profiled, see `docs/link.md`;
//! - `description`, `durable`, `store` and `answer` (feature `std`): board descriptions in TOML, files that
//!   are never torn, the two slots on disk, and what a device says of a plan that is sent to it.
//!
//! Without the feature `std` the crate is `no_std` and needs no allocator; decode, check and select
//! neither panic nor allocate (invariant I1).
#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "tests may compute freely"
    )
)]

#[cfg(feature = "std")]
pub mod answer;
pub mod board;
pub mod check;
#[cfg(feature = "std")]
pub mod description;
#[cfg(feature = "std")]
pub mod durable;
pub mod link;
pub mod masks;
pub mod mode;
pub mod problem;
pub mod select;
#[cfg(feature = "std")]
pub mod store;
pub mod table;
pub mod units;
pub mod wire;

pub use board::Board;
pub use masks::GpuMasks;
pub use mode::PowerMode;
pub use table::{Cell, PlanTable, Row, Workload};
