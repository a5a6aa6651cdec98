//! The lean runtime of Fulcrum.

pub mod histogram;
pub mod queue;
pub mod schedule;
