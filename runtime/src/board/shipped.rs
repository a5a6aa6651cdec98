//! The boards that this build knows.

use fulcrum_plan::Board;
use fulcrum_plan::board::{Boards, decode_all};
use std::sync::OnceLock;

/// The boards that this build knows: `plans/boards/*.toml`, checked and embedded by the build script.
///
/// # Panics
/// Never: the build script read the same bytes back before it embedded them.
#[must_use]
pub fn shipped() -> &'static [Board] {
    static BOARDS: OnceLock<Boards> = OnceLock::new();
    BOARDS.get_or_init(|| {
        decode_all(include_bytes!(concat!(env!("OUT_DIR"), "/boards.postcard")))
            .expect("the build script read these bytes back")
    })
}
