//! The lean runtime of Fulcrum: sets a board's clocks from a plan, and interleaves inference with training.
//!
//! - The board: [`board`] (find it, set a power mode, put the clocks back), [`signal`], [`doctor`],
//!   [`capture`].
//! - The engine: [`engine`] (ONNX Runtime: library, sessions, parameters), [`data`] (samples to train with),
//!   [`checkpoint`] (parameters that outlive a kill), [`validation`] (trained weights that may serve).
//! - The loop: [`serve`] asks [`schedule`] what to do next and does it with [`models`]; [`queue`] brings
//!   requests in, [`guard`] and [`control`] keep the budgets, [`telemetry`] and [`histogram`] tell the rest
//!   of the process.
//! - Requests: [`feeder`] and [`arrivals`] play them, [`socket`] and [`exchange`] take them from other
//!   processes, tensors in [`shared_memory`] if they like, [`client`] sends them, [`load`] many of them; [`status`] tells what became of them.
//! - The loop's thread: [`realtime`], [`pin`].
//! - Around it: [`profile`] (measuring for a planner), [`notify`] (systemd), [`allocation`] (what a thread
//!   allocates), [`random`], [`json`].
//!
//! No clap, no anyhow, no float model; nothing in the loop allocates after start (invariant I5).

pub mod allocation;
pub mod arrivals;
pub mod board;
pub mod capture;
pub mod checkpoint;
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
pub mod load;
pub mod models;
pub mod notify;
pub mod pin;
pub mod profile;
pub mod queue;
pub mod random;
pub mod realtime;
pub mod schedule;
pub mod serve;
pub mod shared_memory;
pub mod signal;
pub mod socket;
pub mod status;
pub mod telemetry;
pub mod validation;
pub mod watchdog;
