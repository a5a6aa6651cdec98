//! Power-gating masks of a GPU: which of its parts are off.
//!
//! A set bit is a part that is off. A mask changes only with a reboot (`docs/boards.md` 4.3), so it is a
//! fact about a board, not a setting; times and powers hold for the masks that they were measured with.

use core::fmt;
use serde::{Deserialize, Serialize};

/// The masks as a kernel tells them; `None` for one that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuMasks {
    /// `tpc_pg_mask`: texture processing clusters.
    pub tpc: Option<u32>,
    /// `fbp_pg_mask`: memory partitions.
    pub fbp: Option<u32>,
    /// `gpc_pg_mask`: graphics processing clusters.
    pub gpc: Option<u32>,
}

/// A mask that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherMask {
    /// Name of the kernel's file.
    pub name: &'static str,
    /// As it was when the plan was measured.
    pub planned: u32,
    /// As it is.
    pub live: u32,
}

impl GpuMasks {
    /// Names of the kernel's files, in the order of [`Self::values`].
    pub const NAMES: [&'static str; 3] = ["tpc_pg_mask", "fbp_pg_mask", "gpc_pg_mask"];

    /// The masks in the order of [`Self::NAMES`].
    #[must_use]
    pub const fn values(&self) -> [Option<u32>; 3] {
        [self.tpc, self.fbp, self.gpc]
    }

    /// The first mask that is known on both sides and differs from `live`.
    #[must_use]
    pub fn other(&self, live: &Self) -> Option<OtherMask> {
        let pairs = self.values().into_iter().zip(live.values());
        Self::NAMES.into_iter().zip(pairs).find_map(|(name, pair)| {
            let (planned, live) = (pair.0?, pair.1?);
            (planned != live).then_some(OtherMask {
                name,
                planned,
                live,
            })
        })
    }
}

/// `tpc_pg_mask 240, fbp_pg_mask 2`; nothing if none is known.
impl fmt::Display for GpuMasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, value) in Self::NAMES.into_iter().zip(self.values()) {
            if let Some(value) = value {
                write!(f, "{separator}{name} {value}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_differ_only_where_both_are_known() {
        let planned = GpuMasks {
            tpc: Some(240),
            fbp: Some(2),
            gpc: None,
        };
        assert_eq!(planned.other(&planned), None);
        assert_eq!(planned.other(&GpuMasks::default()), None);
        let live = GpuMasks {
            tpc: None,
            fbp: Some(0),
            gpc: Some(1),
        };
        let other = OtherMask {
            name: "fbp_pg_mask",
            planned: 2,
            live: 0,
        };
        assert_eq!(planned.other(&live), Some(other));
        assert_eq!(planned.to_string(), "tpc_pg_mask 240, fbp_pg_mask 2");
    }
}
