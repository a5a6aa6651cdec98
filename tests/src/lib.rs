//! What Fulcrum's end-to-end tests share.

pub mod grids;
pub mod programs;
pub mod scratch;
