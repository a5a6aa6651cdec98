//! What the file format knows: its version and the kinds of label.

use crate::engine::Element;
use std::fmt;

/// Newest version. Version 1 is version 2 with classes and no normalisation.
pub(super) const VERSION: u16 = 2;
/// Label kind: a class as int64.
pub(super) const CLASS: u8 = 1;
/// Label kind: float32 values.
pub(super) const VALUES: u8 = 2;
/// Label kind: classes as int64, one for each place of a sample.
pub(super) const CLASSES: u8 = 3;

/// What the label of every sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelKind {
    /// A class below this number.
    Class(u32),
    /// So many values.
    Values(u32),
    /// So many classes: one for each place of a sample, such as the next word after each word.
    Classes(u32),
}

impl LabelKind {
    /// What a file has to have for a training step whose target, of one sample, is so many of these
    /// ([`target`](crate::engine::TrainingSession::target)). How many classes
    /// a step has is [its own to say](crate::engine::TrainingSession::classes): 0 here.
    #[must_use]
    pub fn of_target((element, count): (Element, usize)) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        match (element, count) {
            (Element::F32, _) => Self::Values(count),
            (Element::I64, 1) => Self::Class(0),
            (Element::I64, _) => Self::Classes(count),
        }
    }
}

impl fmt::Display for LabelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(_) => f.write_str("a class"),
            Self::Values(1) => f.write_str("a value"),
            Self::Values(values) => write!(f, "{values} values"),
            Self::Classes(classes) => write!(f, "{classes} classes"),
        }
    }
}
