//! The files that Fulcrum writes, by name, and what can go wrong with one of them.

use core::fmt;
use std::io;

/// A file that Fulcrum writes. Nothing that is not named here is ever written on a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// `cpu{N}/online`: 0 or 1. cpu0 has none on most boards, and is never taken off.
    CpuOnline(u8),
    /// `policy{F}/scaling_min_freq` in kHz, F the first CPU of the cluster.
    CpuMin(u8),
    /// `policy{F}/scaling_max_freq` in kHz.
    CpuMax(u8),
    /// `power/control` of the GPU: 1 stands for `on`, 0 for `auto`.
    GpuPower,
    /// `min_freq` of the GPU's devfreq folder, in Hz.
    GpuMin,
    /// `max_freq` of the GPU's devfreq folder, in Hz.
    GpuMax,
    /// Cap of the memory clock in Hz (`emc_iso_cap` up to JetPack 5, `nvpmodel_clk_cap/emc` after).
    EmcCap,
    /// `mrq_rate_locked` of the memory clock: 0 or 1.
    EmcLock,
    /// `rate` of the memory clock in Hz; takes effect while locked.
    EmcRate,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CpuOnline(cpu) => write!(f, "cpu{cpu}/online"),
            Self::CpuMin(policy) => write!(f, "policy{policy}/scaling_min_freq"),
            Self::CpuMax(policy) => write!(f, "policy{policy}/scaling_max_freq"),
            Self::GpuPower => f.write_str("the GPU's power/control"),
            Self::GpuMin => f.write_str("the GPU's min_freq"),
            Self::GpuMax => f.write_str("the GPU's max_freq"),
            Self::EmcCap => f.write_str("the memory clock's cap"),
            Self::EmcLock => f.write_str("the memory clock's mrq_rate_locked"),
            Self::EmcRate => f.write_str("the memory clock's rate"),
        }
    }
}

/// What went wrong with a [`Node`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The board does not have this file.
    Missing,
    /// Opening failed with this errno.
    Open(i32),
    /// Reading failed with this errno.
    Read(i32),
    /// Writing failed with this errno.
    Write(i32),
    /// The file holds no number.
    NotANumber,
    /// The write was accepted, but the file reads back something else.
    Differs {
        /// What was written.
        expected: u64,
        /// What is read back.
        got: u64,
    },
}

/// A failure at one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeError {
    /// Which file.
    pub node: Node,
    /// What went wrong.
    pub cause: Cause,
}

impl NodeError {
    /// Whether the kernel may accept the same call a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self.cause,
            Cause::Read(libc::EBUSY | libc::EAGAIN | libc::EINTR)
                | Cause::Write(libc::EBUSY | libc::EAGAIN | libc::EINTR)
        )
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node;
        let (verb, errno) = match self.cause {
            Cause::Missing => return write!(f, "this board has no {node}"),
            Cause::NotANumber => return write!(f, "{node} holds no number"),
            Cause::Differs { expected, got } => {
                return write!(f, "{node} was set to {expected} but reads {got}");
            }
            Cause::Open(errno) => ("open", errno),
            Cause::Read(errno) => ("read", errno),
            Cause::Write(errno) => ("write", errno),
        };
        write!(
            f,
            "cannot {verb} {node}: {}",
            io::Error::from_raw_os_error(errno)
        )?;
        if matches!(errno, libc::EACCES | libc::EPERM | libc::EBADF) {
            f.write_str("; clocks belong to root: run fulcrumd as root")?;
        }
        Ok(())
    }
}

impl core::error::Error for NodeError {}
