//! The seam between the order of writes and the kernel.
//!
//! Production puts [`Sysfs`](super::Sysfs) on it; tests put a recorder, a fault injector or a model
//! of the kernel.

use super::node::{Node, NodeError};
use std::time::Duration;

/// How often a write is tried before its failure counts.
pub(super) const ATTEMPTS: u32 = 4;
/// Pause between two tries. The slowest clock takes about 8 ms to change (EMC, jetson.md 4.1).
pub(super) const SETTLE: Duration = Duration::from_millis(10);

/// Reads and writes of single control files.
pub trait Controls {
    /// The value that `node` holds.
    ///
    /// # Errors
    /// The board does not have the file, it cannot be read, or it holds no number.
    fn read(&mut self, node: Node) -> Result<u64, NodeError>;

    /// Writes `value` once; does not read it back.
    ///
    /// # Errors
    /// The board does not have the file, or the kernel refused the value.
    fn write(&mut self, node: Node, value: u64) -> Result<(), NodeError>;

    /// Whether the board has the file at all.
    fn has(&self, node: Node) -> bool;

    /// Lets the hardware settle. Virtual boards advance their own clock instead.
    fn wait(&mut self, pause: Duration);
}

/// Writes, and tries again while the kernel says that it is busy.
pub(super) fn write_patiently<C: Controls>(
    controls: &mut C,
    node: Node,
    value: u64,
) -> Result<(), NodeError> {
    let mut tries = 1;
    loop {
        match controls.write(node, value) {
            Err(error) if error.is_transient() && tries < ATTEMPTS => {
                controls.wait(SETTLE);
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Reads, and tries again while the kernel says that it is busy.
pub(super) fn read_patiently<C: Controls>(controls: &mut C, node: Node) -> Result<u64, NodeError> {
    let mut tries = 1;
    loop {
        match controls.read(node) {
            Err(error) if error.is_transient() && tries < ATTEMPTS => {
                controls.wait(SETTLE);
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}
