//! The protocol of the request socket, version 2; see `docs/loop.md`.
//!
//! Little endian, frames of fixed size, so there are no lengths to trust:
//!
//! | frame | bytes |
//! |---|---|
//! | hello, once, from the server | `FREQ`, version u32, values per sample u32, values per output u32 |
//! | choice, once, from the client | where its tensors lie, u32: 0 in the frames, 1 in shared memory |
//! | request | id u64, sample f32 each |
//! | answer | id u64, status u32, latency u32 (µs, from arrival to answer), output f32 each |
//!
//! Status: 0 answered, 1 rejected, 2 dropped, 3 failed; the output is zeros unless answered.
//!
//! With shared memory ([`crate::shared_memory`]):
//!
//! | frame | bytes |
//! |---|---|
//! | memory, once, from the server, with a file | slots u32, from a slot to the next u32, from a slot to its output u32, both in values |
//! | request | id u64, slot u32, zero u32 |
//! | answer | id u64, status u32, latency u32; the output, if answered, is in the slot |

use crate::exchange::Status;
use crate::shared_memory::Layout;

/// First bytes of a hello.
pub const MAGIC: [u8; 4] = *b"FREQ";
/// Version of the protocol.
pub const VERSION: u32 = 2;
/// Bytes of a hello.
pub const HELLO_LEN: usize = 16;
/// Bytes of a choice.
pub const CHOICE_LEN: usize = 4;
/// The choice of tensors in the frames.
pub const IN_FRAMES: u32 = 0;
/// The choice of tensors in shared memory.
pub const IN_SHARED_MEMORY: u32 = 1;
/// Bytes of what the server tells of the memory.
pub const MEMORY_LEN: usize = 12;
/// Bytes of a request whose sample is in shared memory.
pub const SHARED_REQUEST_LEN: usize = 16;
/// Bytes of a request before its sample.
pub const REQUEST_HEAD_LEN: usize = 8;
/// Bytes of an answer before its output.
pub const ANSWER_HEAD_LEN: usize = 16;

/// The number of a status.
#[must_use]
pub const fn status_number(status: Status) -> u32 {
    match status {
        Status::Answered => 0,
        Status::Rejected => 1,
        Status::Dropped => 2,
        Status::Failed => 3,
    }
}

/// The status of a number.
#[must_use]
pub const fn status_of(number: u32) -> Option<Status> {
    match number {
        0 => Some(Status::Answered),
        1 => Some(Status::Rejected),
        2 => Some(Status::Dropped),
        3 => Some(Status::Failed),
        _ => None,
    }
}

/// A hello.
#[must_use]
pub fn hello(sample_len: u32, output_len: u32) -> [u8; HELLO_LEN] {
    let mut bytes = [0; HELLO_LEN];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
    bytes[8..12].copy_from_slice(&sample_len.to_le_bytes());
    bytes[12..].copy_from_slice(&output_len.to_le_bytes());
    bytes
}

/// What the server tells of the memory.
#[must_use]
pub fn memory(layout: &Layout) -> [u8; MEMORY_LEN] {
    let mut bytes = [0; MEMORY_LEN];
    let values = [layout.slots, layout.slot_len, layout.output_at];
    for (to, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        *to = u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    }
    bytes
}

/// The head of an answer.
#[must_use]
pub fn answer_head(id: u64, status: Status, latency_us: u32) -> [u8; ANSWER_HEAD_LEN] {
    let mut bytes = [0; ANSWER_HEAD_LEN];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    bytes[8..12].copy_from_slice(&status_number(status).to_le_bytes());
    bytes[12..].copy_from_slice(&latency_us.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_the_documented_bytes() {
        assert_eq!(hello(64, 10), *b"FREQ\x02\0\0\0\x40\0\0\0\x0a\0\0\0");
        assert_eq!(
            answer_head(0x0102, Status::Dropped, 500),
            *b"\x02\x01\0\0\0\0\0\0\x02\0\0\0\xf4\x01\0\0"
        );
        let layout = Layout::of(64, 10).unwrap();
        assert_eq!(memory(&layout), *b"\x40\0\0\0\x50\0\0\0\x40\0\0\0");
        for number in 0..4 {
            assert_eq!(status_of(number).map(status_number), Some(number));
        }
        assert_eq!(status_of(4), None);
    }
}
