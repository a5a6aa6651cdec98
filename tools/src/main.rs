//! The workstation command line of Fulcrum.
fn main() {}
