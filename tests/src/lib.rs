//! What Fulcrum's end-to-end tests share: the programs, the measured grids, simulated hours on them, trees on
//! disk, recorded writes, golden files, models and the library that runs them, a device in a folder, a
//! browser, an sshd.

pub mod chromium;
pub mod device;
pub mod golden;
pub mod grids;
pub mod hours;
pub mod models;
pub mod onnxruntime;
pub mod programs;
pub mod recorder;
pub mod running;
pub mod soak;
pub mod ssh;
pub mod tree;
pub mod virtual_jetson;
