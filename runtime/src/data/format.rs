//! What the file format knows: its version and the kinds of label.

use std::fmt;

/// Newest version. Version 1 is version 2 with classes and no normalisation.
pub(super) const VERSION: u16 = 2;
/// Label kind: a class as int64.
pub(super) const CLASS: u8 = 1;
/// Label kind: float32 values.
pub(super) const VALUES: u8 = 2;

/// What the label of every sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelKind {
    /// A class below this number.
    Class(u32),
    /// So many values.
    Values(u32),
}

impl fmt::Display for LabelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(_) => f.write_str("a class"),
            Self::Values(1) => f.write_str("a value"),
            Self::Values(values) => write!(f, "{values} values"),
        }
    }
}
