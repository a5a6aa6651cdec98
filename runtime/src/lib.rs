//! The lean runtime of Fulcrum.

pub mod allocation;
pub mod arrivals;
pub mod board;
pub mod capture;
pub mod client;
pub mod control;
pub mod data;
pub mod doctor;
pub mod engine;
pub mod exchange;
pub mod feeder;
pub mod guard;
pub mod histogram;
pub mod json;
pub mod models;
pub mod notify;
pub mod profile;
pub mod queue;
pub mod random;
pub mod schedule;
pub mod serve;
pub mod signal;
pub mod socket;
pub mod telemetry;
