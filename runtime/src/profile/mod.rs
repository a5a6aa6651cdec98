//! `fulcrumd profile`: measures on the board what the planner asks for.
//!
//! - [`serve`]: the conversation over standard input and output (`docs/link.md`);
//! - [`measure`]: one profile: what is read before, what is run, what is read after;
//! - [`course`]: which minibatches count: warm-up dropped, power settled, about 40 of them;
//! - [`statistics`]: medians and spreads;
//! - [`models`]: the workloads that are offered, and their sessions;
//! - [`rig`]: all of it on a Jetson.
//!
//! How a mode is profiled: fulcrum.md section 7. What is measured is told as it is; whether it can be
//! trusted is for the planner to judge (invariant I7).

pub mod course;
pub mod measure;
pub mod models;
pub mod rig;
pub mod serve;
pub mod statistics;
