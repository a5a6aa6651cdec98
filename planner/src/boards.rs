//! The boards that this build knows: `plans/boards/*.toml`, embedded by the build script.

use fulcrum_plan::{Board, board};
use std::sync::LazyLock;

static BOARDS: LazyLock<board::Boards> = LazyLock::new(|| {
    board::decode_all(include_bytes!(concat!(env!("OUT_DIR"), "/boards.postcard")))
        .expect("the build script read the embedded boards back")
});

/// A board name that no description bears.
#[derive(Debug, thiserror::Error)]
#[error("no board is named `{name}`; known: {}; see plans/boards/*.toml", names().join(", "))]
pub struct UnknownBoard {
    /// The name that was asked for.
    pub name: String,
}

/// Every known board.
#[must_use]
pub fn all() -> &'static [Board] {
    &BOARDS
}

/// Names of the known boards.
#[must_use]
pub fn names() -> Vec<&'static str> {
    all().iter().map(|board| board.name.as_str()).collect()
}

/// The board of a name.
///
/// # Errors
/// [`UnknownBoard`], which lists the names there are.
pub fn named(name: &str) -> Result<&'static Board, UnknownBoard> {
    all()
        .iter()
        .find(|board| board.name == name)
        .ok_or_else(|| UnknownBoard {
            name: name.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agx_orin_is_embedded_and_an_unknown_name_lists_it() {
        assert_eq!(named("orin-agx").unwrap().cores, 12);
        let message = named("orin-agz").unwrap_err().to_string();
        assert!(message.contains("orin-agx") && message.contains("orin-agz"));
    }
}
