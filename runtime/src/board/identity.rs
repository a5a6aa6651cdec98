//! Which board this is, and which release runs on it (jetson.md 1.1).

use super::number;
use super::shipped::shipped;
use super::startup::{DiscoverError, read_start};
use super::sysfs::errno;
use fulcrum_plan::Board;
use std::path::Path;

/// A release of Jetson Linux (L4T), such as 36.4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct L4t {
    /// The `R` number: 32 is JetPack 4, 34 and 35 are JetPack 5, 36 is 6, 38 and 39 are 7.
    pub major: u8,
    /// First part of the revision.
    pub minor: u8,
    /// Second part of the revision.
    pub patch: u8,
}

impl L4t {
    /// Reads `# R36 (release), REVISION: 4.3, …`, the first line of `/etc/nv_tegra_release`.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let major = line.strip_prefix("# R")?.split_once(' ')?.0.parse().ok()?;
        let revision = line.split_once("REVISION: ")?.1.split([',', ' ']).next()?;
        let (minor, patch) = revision.split_once('.').unwrap_or((revision, "0"));
        Some(Self {
            major,
            minor: minor.parse().ok()?,
            patch: patch.parse().ok()?,
        })
    }

    /// The JetPack generation; `None` for a release that is not known.
    #[must_use]
    pub fn jetpack(self) -> Option<u8> {
        match self.major {
            32 => Some(4),
            34 | 35 => Some(5),
            36 => Some(6),
            38 | 39 => Some(7),
            _ => None,
        }
    }
}

impl core::fmt::Display for L4t {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "L4T {}.{}.{}", self.major, self.minor, self.patch)?;
        match self.jetpack() {
            Some(jetpack) => write!(f, " (JetPack {jetpack})"),
            None => Ok(()),
        }
    }
}

/// Which board this is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The description whose module id the device tree names.
    pub board: Board,
    /// That module id, such as `p3701-0005`.
    pub module: heapless::String<24>,
    /// The release; `None` when the file is missing (a container, another distribution). Nothing
    /// depends on it: the layout of the files is probed.
    pub l4t: Option<L4t>,
}

impl Identity {
    /// The board's name in plans and at the command line.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.board.name
    }

    /// Identifies the board below `root` among the shipped ones, and looks at nothing else.
    ///
    /// # Errors
    /// There is no device tree, or no board has a module that it names.
    pub fn of(root: &Path) -> Result<Self, DiscoverError> {
        Self::find(root, shipped())
    }

    /// Identifies the board below `root`.
    ///
    /// # Errors
    /// There is no device tree, or none of `boards` has a module that it names.
    pub(super) fn find(root: &Path, boards: &[Board]) -> Result<Self, DiscoverError> {
        let path = root.join("proc/device-tree/compatible");
        let bytes = std::fs::read(&path).map_err(|error| DiscoverError::NoDeviceTree {
            path,
            errno: errno(&error),
        })?;
        let compatible = String::from_utf8_lossy(&bytes).replace('\0', " ");
        let (board, module) =
            matching(boards, &compatible).ok_or_else(|| DiscoverError::UnknownBoard {
                compatible: compatible.trim().to_owned(),
            })?;
        let l4t = read_start(&root.join("etc/nv_tegra_release"))
            .ok()
            .and_then(|bytes| L4t::parse(number::first_line(&bytes)?));
        Ok(Self {
            board: board.clone(),
            module: module.clone(),
            l4t,
        })
    }
}

/// The board one of whose modules is a word of `compatible`, a list such as
/// `nvidia,p3737-0000+p3701-0005 nvidia,tegra234`.
fn matching<'b>(
    boards: &'b [Board],
    compatible: &str,
) -> Option<(&'b Board, &'b heapless::String<24>)> {
    boards.iter().find_map(|board| {
        let module = board.modules.iter().find(|module| {
            compatible
                .split([' ', ',', '+'])
                .any(|word| word == module.as_str())
        })?;
        Some((board, module))
    })
}

#[cfg(test)]
mod tests {
    use super::super::shipped::shipped;
    use super::*;

    #[test]
    fn releases_are_read_from_their_first_line() {
        let line = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64";
        let l4t = L4t::parse(line).unwrap();
        assert_eq!((l4t.major, l4t.minor, l4t.patch), (36, 4, 3));
        assert_eq!(l4t.to_string(), "L4T 36.4.3 (JetPack 6)");
        assert_eq!(
            L4t::parse("# R35 (release), REVISION: 4.1,").and_then(L4t::jetpack),
            Some(5)
        );
        for bad in [
            "",
            "R36",
            "# R36 (release)",
            "# Rx (release), REVISION: 1.0,",
        ] {
            assert_eq!(L4t::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn modules_match_as_whole_words() {
        let named = |compatible| matching(shipped(), compatible).map(|(b, _)| b.name.as_str());
        assert_eq!(
            named("nvidia,p3737-0000+p3701-0005 nvidia,tegra234"),
            Some("orin-agx")
        );
        assert_eq!(
            named("nvidia,p3768-0000+p3767-0005-super nvidia,p3767-0005 nvidia,tegra234"),
            Some("orin-nano-8-super"),
        );
        assert_eq!(
            named("nvidia,p3768-0000+p3767-0005 nvidia,tegra234"),
            Some("orin-nano-8")
        );
        assert_eq!(named("nvidia,p3701-00055"), None);
        assert_eq!(named(""), None);
    }
}
