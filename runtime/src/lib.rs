//! The lean runtime of Fulcrum.

pub mod board;
pub mod histogram;
pub mod queue;
pub mod schedule;
pub mod signal;
