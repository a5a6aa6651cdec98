//! The workstation side of Fulcrum as a command line: thin. It parses, calls the planner and the plan
//! crate, and prints.
//!
//! - [`mod@array`]: NumPy's arrays;
//! - [`board_folder`]: a folder that looks like a board, for the demo and for tests;
//! - [`cache`]: fulcrum's cache folder;
//! - [`cli`]: the command line and its subcommands;
//! - [`command`]: one file per subcommand;
//! - [`digits`]: the data set of the demo and the tests;
//! - [`engine_install`]: ONNX Runtime into the cache;
//! - [`mod@image`], [`image_folder`]: samples out of pictures;
//! - [`fulcrumd`]: starting the runtime on this machine;
//! - [`nvpmodel`]: NVIDIA's named modes out of the user's `nvpmodel.conf`;
//! - [`captured_board`]: a board description out of that and a captured folder;
//! - [`packing`]: samples out of arrays and tables;
//! - [`target`], [`fleet`]: where plans are flashed to, one device or many;
//! - [`plan_file`]: plan files and boards by name;
//! - [`presets`]: the named modes, measured, beside a plan;
//! - [`source`]: where measurements come from, as `--profiles` names it;
//! - [`progress`]: progress of long work;
//! - [`records`]: data files for the runtime;
//! - [`report`]: a plan as a page for people;
//! - [`table`]: aligned tables on the terminal;
//! - [`verdict`]: how a command ends;
//! - [`wheel`]: pinned Python wheels, fetched with pip.

// `println!` panics where standard output is a closed pipe or a full disk.
#![warn(clippy::print_stdout)]

pub mod array;
pub mod board_folder;
pub mod cache;
pub mod captured_board;
pub mod cli;
pub mod command;
pub mod digits;
pub mod engine_install;
pub mod fleet;
pub mod fulcrumd;
pub mod image;
pub mod image_folder;
pub mod nvpmodel;
pub mod packing;
pub mod plan_file;
pub mod presets;
pub mod progress;
pub mod records;
pub mod report;
pub mod source;
pub mod table;
pub mod target;
pub mod verdict;
pub mod wheel;
