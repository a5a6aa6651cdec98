//! What Fulcrum's end-to-end tests share: trees on disk, recorded writes, golden files.

pub mod golden;
pub mod recorder;
pub mod tree;
