//! What a workstation and a board say to each other while modes are profiled.
//!
//! `fulcrum plan --profiles exec:COMMAND` starts a process (`fulcrumd profile`, here or through ssh) and
//! speaks to it over its standard input and output. `docs/link.md` is the specification. In short:
//!
//! - the workstation asks ([`Request`]), the board answers ([`Response`]), one profile at a time;
//! - a message is postcard, closed by a CRC-32, in a COBS frame ([`frame`]): a receiver finds the next
//!   frame after any garbage, such as the banner of a login shell;
//! - the first byte of every message is the protocol version: another version is told apart from damage.
//!
//! Nothing here allocates or panics, whatever the bytes (`every_flipped_bit_is_refused`,
//! `random_bytes_give_no_message`).

pub mod frame;
pub mod message;

pub use frame::{EncodeError, FRAME_LEN_MAX, FrameError, Receiver, VERSION, encode};
pub use message::{
    Hello, L4t, Measured, No, Offer, Order, Progress, Reason, Request, Response, Role, Stage, Text,
    text,
};
