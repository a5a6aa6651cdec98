//! The subcommands, one file each. Their names and their JSON are what scripts rely on.

pub mod check;
pub mod checkpoint;
pub mod demo;
pub mod engine;
pub mod evaluate;
pub mod flash;
pub mod import_nvpmodel;
pub mod load;
pub mod pack_data;
pub mod plan;
pub mod report;
pub mod select;
pub mod show;
pub mod train_step;
