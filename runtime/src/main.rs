//! Placeholder main until the loop lands.
fn main() {}
