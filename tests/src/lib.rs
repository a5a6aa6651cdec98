//! What Fulcrum's end-to-end tests share: the programs, the measured grids, trees on disk, recorded
//! writes, golden files.

pub mod golden;
pub mod grids;
pub mod onnxruntime;
pub mod programs;
pub mod recorder;
pub mod tree;
pub mod virtual_jetson;
