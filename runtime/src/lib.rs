//! The lean runtime of Fulcrum.

pub mod allocation;
pub mod board;
pub mod capture;
pub mod data;
pub mod doctor;
pub mod engine;
pub mod histogram;
pub mod notify;
pub mod queue;
pub mod schedule;
pub mod signal;
