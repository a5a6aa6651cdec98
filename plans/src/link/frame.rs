//! Frames: how a message stands in a stream of bytes.
//!
//! | part | bytes | what |
//! |---|---|---|
//! | delimiter | 1 | `00`: ends whatever garbage came before |
//! | content, byte-stuffed (COBS) | n + 1 + n / 254 | no `00` in it |
//! | delimiter | 1 | `00` |
//!
//! and the content, before stuffing:
//!
//! | part | bytes | what |
//! |---|---|---|
//! | version | 1 | [`VERSION`] |
//! | message | n - 5 | postcard |
//! | checksum | 4 | CRC-32/ISCSI of version and message, little endian |
//!
//! COBS: S. Cheshire and M. Baker, *Consistent Overhead Byte Stuffing*, SIGCOMM 1997.

use crate::wire::{CRC, checksum};
use cobs::{DecodeResult, DecoderState};
use core::marker::PhantomData;
use postcard::ser_flavors::crc::CrcModifier;
use postcard::ser_flavors::{Cobs, Slice};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Version of the protocol: changes whenever a message does.
pub const VERSION: u8 = 1;
/// Longest content in bytes. The largest message that the capacities allow takes 1,610
/// (`the_largest_message_fits`).
pub const CONTENT_LEN_MAX: usize = 2048;
/// Longest frame in bytes, both delimiters included.
pub const FRAME_LEN_MAX: usize = CONTENT_LEN_MAX + CONTENT_LEN_MAX / 254 + 3;

const CRC_LEN: usize = 4;

/// A message that does not fit a frame; none of [`super::message`] is so large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeError;

impl core::fmt::Display for EncodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "a message takes more than {FRAME_LEN_MAX} bytes")
    }
}

impl core::error::Error for EncodeError {}

/// Why bytes between two delimiters are no message. All but [`FrameError::Version`] are what a
/// receiver meets on an unclean line, and goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// Not byte-stuffed, longer than [`CONTENT_LEN_MAX`], or the checksum does not match: garbage, or a
    /// damaged frame.
    Damaged,
    /// A sound frame of another protocol version.
    Version(u8),
    /// A sound frame of this version that is not the message expected here.
    Message,
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Damaged => f.write_str("bytes that are no message"),
            Self::Version(version) => write!(
                f,
                "the other side speaks version {version} of the link, this program {VERSION}; \
                 use matching versions of fulcrum and fulcrumd"
            ),
            Self::Message => f.write_str("a message that is not expected here"),
        }
    }
}

impl core::error::Error for FrameError {}

/// Writes the frame of a message into `buffer` and returns the part that was written. Does not
/// allocate.
///
/// # Errors
/// [`EncodeError`] if the message is too large.
pub fn encode<'a>(
    message: &impl Serialize,
    buffer: &'a mut [u8; FRAME_LEN_MAX],
) -> Result<&'a [u8], EncodeError> {
    let (first, room) = buffer.split_first_mut().ok_or(EncodeError)?;
    *first = 0;
    let stuffed = Cobs::try_new(Slice::new(room)).map_err(|_| EncodeError)?;
    let flavor = CrcModifier::new(stuffed, CRC.digest());
    let written = postcard::serialize_with_flavor(&(VERSION, message), flavor)
        .map_err(|_| EncodeError)?
        .len();
    let length = written.checked_add(1).ok_or(EncodeError)?;
    buffer.get(..length).ok_or(EncodeError)
}

/// Reads the content of a frame, that is, without stuffing and delimiters. Does not allocate and does
/// not panic, whatever the bytes.
///
/// # Errors
/// A variant of [`FrameError`] per reason.
pub fn decode<T: DeserializeOwned>(content: &[u8]) -> Result<T, FrameError> {
    let (body, crc) = content
        .split_last_chunk::<CRC_LEN>()
        .ok_or(FrameError::Damaged)?;
    if checksum(body) != u32::from_le_bytes(*crc) {
        return Err(FrameError::Damaged);
    }
    let (version, message) = body.split_first().ok_or(FrameError::Damaged)?;
    if *version != VERSION {
        return Err(FrameError::Version(*version));
    }
    match postcard::take_from_bytes(message) {
        Ok((message, [])) => Ok(message),
        _ => Err(FrameError::Message),
    }
}

/// Finds messages of type `T` in a stream of bytes, however it is cut into pieces.
#[derive(Debug)]
pub struct Receiver<T> {
    content: [u8; CONTENT_LEN_MAX],
    length: usize,
    state: DecoderState,
    /// Bytes came since the last delimiter.
    begun: bool,
    /// They are no frame.
    spoilt: bool,
    message: PhantomData<T>,
}

impl<T> Default for Receiver<T> {
    fn default() -> Self {
        Self {
            content: [0; CONTENT_LEN_MAX],
            length: 0,
            state: DecoderState::Idle,
            begun: false,
            spoilt: false,
            message: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Takes the next byte of the stream; tells what ended with it, if something did. Does not allocate
    /// and does not panic.
    pub fn push(&mut self, byte: u8) -> Option<Result<T, FrameError>> {
        let step = self.state.feed(byte);
        if byte != 0 {
            self.begun = true;
            if let Ok(DecodeResult::DataContinue(byte)) = step {
                match self.content.get_mut(self.length) {
                    Some(place) => {
                        *place = byte;
                        self.length = self.length.saturating_add(1);
                    }
                    None => self.spoilt = true,
                }
            }
            return None;
        }
        let whole = matches!(step, Ok(DecodeResult::DataComplete)) && !self.spoilt;
        let content = self.content.get(..self.length).unwrap_or_default();
        let outcome = match (self.begun, whole) {
            (false, _) => None,
            (true, true) => Some(decode(content)),
            (true, false) => Some(Err(FrameError::Damaged)),
        };
        self.length = 0;
        self.state = DecoderState::Idle;
        self.begun = false;
        self.spoilt = false;
        outcome
    }
}
