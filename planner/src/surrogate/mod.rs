//! What the planner believes about cells it has not paid for.

pub mod cholesky;
pub mod gp;
pub mod normal;
