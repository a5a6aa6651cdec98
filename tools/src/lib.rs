//! The workstation side of Fulcrum as a command line: thin. It parses, calls the planner and the plan
//! crate, and prints.
//!
//! - [`board_folder`]: a folder that looks like a board, for the demo and for tests;
//! - [`cli`]: the command line and its subcommands;
//! - [`command`]: one file per subcommand;
//! - [`nvpmodel`]: NVIDIA's named modes out of the user's `nvpmodel.conf`;
//! - [`plan_file`]: plan files and boards by name;
//! - [`source`]: where measurements come from, as `--profiles` names it;
//! - [`progress`]: progress of long work;
//! - [`table`]: aligned tables on the terminal;
//! - [`verdict`]: how a command ends.

pub mod board_folder;
pub mod cli;
pub mod command;
pub mod nvpmodel;
pub mod plan_file;
pub mod progress;
pub mod source;
pub mod table;
pub mod verdict;
