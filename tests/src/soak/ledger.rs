//! Every request of a client and what became of it.

use fulcrum_runtime::exchange::Status;
use std::collections::BTreeSet;
use std::fmt;

/// Counts of requests by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Sent, or begun to be sent.
    pub sent: u64,
    /// Answered.
    pub answered: u64,
    /// Rejected.
    pub rejected: u64,
    /// Dropped.
    pub dropped: u64,
    /// Failed in the engine.
    pub failed: u64,
    /// Gone with the connection: the client left, was disconnected for a reason, or the server ended.
    pub lost: u64,
}

impl Ledger {
    /// The sum of two.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            answered: self.answered + other.answered,
            rejected: self.rejected + other.rejected,
            dropped: self.dropped + other.dropped,
            failed: self.failed + other.failed,
            lost: self.lost + other.lost,
        }
    }

    /// Whether every request is accounted for.
    #[must_use]
    pub const fn balances(&self) -> bool {
        self.sent == self.answered + self.rejected + self.dropped + self.failed + self.lost
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sent = {} answered + {} rejected + {} dropped + {} failed + {} lost with a connection",
            self.sent, self.answered, self.rejected, self.dropped, self.failed, self.lost
        )
    }
}

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Account {
    waiting: BTreeSet<u64>,
    ledger: Ledger,
}

impl Account {
    /// A request is about to be sent.
    pub(super) fn sent(&mut self, id: u64) {
        self.waiting.insert(id);
        self.ledger.sent += 1;
    }

    /// An answer came. False if nobody asked, or it is the second one.
    pub(super) fn ended(&mut self, id: u64, status: Status) -> bool {
        let count = match status {
            Status::Answered => &mut self.ledger.answered,
            Status::Rejected => &mut self.ledger.rejected,
            Status::Dropped => &mut self.ledger.dropped,
            Status::Failed => &mut self.ledger.failed,
        };
        *count += 1;
        self.waiting.remove(&id)
    }

    /// Requests without an answer so far.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The connection is over: what still waits is lost with it.
    pub(super) fn close(mut self) -> Ledger {
        self.ledger.lost += self.waiting.len() as u64;
        self.ledger
    }
}
