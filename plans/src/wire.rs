//! The bytes of a plan: a frame around a postcard payload, closed by a CRC-32.
//!
//! `docs/plan-format.md` is the specification, with a worked example that a test compares with what
//! this module writes. In short, little endian:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | magic `FPLN` |
//! | 4 | 2 | format version |
//! | 6 | 2 | flags, zero |
//! | 8 | 8 | schema key |
//! | 16 | 4 | payload length n |
//! | 20 | n | payload |
//! | 20 + n | 4 | CRC-32/ISCSI of everything before |
//!
//! A decoder looks at magic, length and CRC first, so that a flipped bit is never mistaken for a newer
//! version; then at version, flags and schema; then it reads the payload, wants it to be exactly the
//! bytes it would write itself, and applies every rule of [`crate::check`].
//!
//! Postcard alone would accept trailing bytes, other types and non-canonical integers; the frame is
//! what makes a plan safe to trust.

use crate::board::{self, Board, Clocks};
use crate::check::{CheckError, check};
use crate::mode::PowerMode;
use crate::table::{
    CELLS_MAX, Cell, INFER_MAX, PlanTable, Provenance, ROWS_MAX, Row, Workload, insert,
};
use crate::units::{Khz, MicroSec, MilliWatt};
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// First bytes of every plan.
pub const MAGIC: [u8; 4] = *b"FPLN";
/// Version that this build writes and reads.
pub const VERSION: u16 = 1;
/// Changes whenever `Payload` changes: a payload of another shape must not be read as this one.
pub const SCHEMA_KEY: u64 = 0x4650_4c4e_0001_0002;
/// Longest plan in bytes; nothing longer is read from a disk or a link.
pub const LEN_MAX: usize = 64 * 1024;

const HEADER_LEN: usize = 20;
const CRC_LEN: usize = 4;
/// CRC-32/ISCSI, the checksum of every format of Fulcrum, for what digests in pieces.
pub const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

/// [`CRC`] of a slice.
#[must_use]
pub const fn checksum(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

/// Why bytes are no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// Shorter than a frame without payload, or longer than [`LEN_MAX`].
    Size(usize),
    /// The first bytes are not the magic: some other file.
    NotAPlan,
    /// The frame says it is longer than what is there.
    Truncated {
        /// Length that the frame declares.
        declared: u64,
        /// Length that was given.
        found: usize,
    },
    /// Bytes after the end of the frame, or of the payload.
    Trailing,
    /// The checksum does not match: a flipped bit.
    Checksum,
    /// A newer (or unknown) format version.
    Version(u16),
    /// Flags that this version does not have.
    Flags(u16),
    /// A payload of another shape.
    Schema(u64),
    /// The payload is not what version and schema promise.
    Payload,
    /// The payload is not written the way this format writes it.
    NotCanonical,
    /// The plan is for a board that is not among those it may be for.
    Board(board::Name),
    /// A rule of a good plan is broken.
    Check(CheckError),
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Size(len) => write!(f, "{len} bytes are no plan (24 to {LEN_MAX} bytes)"),
            Self::NotAPlan => f.write_str("not a plan file (it does not begin with FPLN)"),
            Self::Truncated { declared, found } => {
                write!(f, "truncated: {found} of {declared} bytes; copy it again")
            }
            Self::Trailing => f.write_str("bytes after the end of the plan; copy it again"),
            Self::Checksum => f.write_str("the checksum is wrong: damaged; copy it again"),
            Self::Version(version) => write!(
                f,
                "format version {version}, this program reads {VERSION}; \
                 use matching versions of fulcrum and fulcrumd"
            ),
            Self::Flags(flags) => write!(f, "unknown flags {flags:#06x}; update this program"),
            Self::Schema(key) => write!(f, "unknown schema {key:#018x}; update this program"),
            Self::Payload => f.write_str("the payload cannot be read"),
            Self::NotCanonical => f.write_str("the payload is not in canonical form"),
            Self::Board(name) => write!(f, "the plan is for the board `{name}`"),
            Self::Check(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Why a plan cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// It breaks a rule; nothing is written that could not be read back.
    Check(CheckError),
    /// The buffer is too small; [`LEN_MAX`] is always enough.
    Full,
}

impl core::fmt::Display for EncodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Check(error) => write!(f, "{error}"),
            Self::Full => f.write_str("the plan does not fit the buffer"),
        }
    }
}

impl core::error::Error for EncodeError {}

/// What postcard writes. Clocks stand once in their tables and rows hold an index; a cell's power is
/// the difference to the cell before it, so that most take two bytes.
#[derive(Serialize, Deserialize)]
struct Payload {
    board: board::Name,
    provenance: Provenance,
    train: Option<Workload>,
    infer: Vec<Workload, INFER_MAX>,
    cpu_khz: Clocks,
    gpu_khz: Clocks,
    emc_khz: Clocks,
    rows: Vec<PackedRow, ROWS_MAX>,
}

#[derive(Serialize, Deserialize)]
struct PackedRow {
    cores: u8,
    cpu_index: u8,
    gpu_index: u8,
    emc_index: u8,
    /// Bit i: slot i is filled. `cells` holds the filled slots only.
    filled: u32,
    cells: Vec<PackedCell, CELLS_MAX>,
}

#[derive(Serialize, Deserialize)]
struct PackedCell {
    time_us: MicroSec,
    power_step_mw: i32,
}

/// The clocks that occur, ascending, each once. `None` if they are more than a table holds.
fn occurring(rows: &[Row], clock: impl Fn(&PowerMode) -> Khz) -> Option<Clocks> {
    let mut clocks = Clocks::new();
    for row in rows {
        let khz = clock(&row.mode);
        if let Err(at) = clocks.binary_search(&khz) {
            insert(&mut clocks, at, khz).ok()?;
        }
    }
    Some(clocks)
}

fn index_in(clocks: &Clocks, khz: Khz) -> Option<u8> {
    clocks
        .binary_search(&khz)
        .ok()
        .and_then(|at| u8::try_from(at).ok())
}

impl Payload {
    fn pack(plan: &PlanTable) -> Option<Self> {
        let cpu_khz = occurring(&plan.rows, |mode| mode.cpu_khz)?;
        let gpu_khz = occurring(&plan.rows, |mode| mode.gpu_khz)?;
        let emc_khz = occurring(&plan.rows, |mode| mode.emc_khz)?;
        let mut rows = Vec::new();
        let mut power_before = 0u32;
        for row in &plan.rows {
            let mut cells = Vec::new();
            let mut filled = 0u32;
            for (slot, cell) in row.cells.iter().enumerate() {
                let Some(cell) = cell else { continue };
                filled |= 1u32.checked_shl(u32::try_from(slot).ok()?)?;
                let power_step_mw = i64::from(cell.power_mw.0)
                    .checked_sub(i64::from(power_before))
                    .and_then(|step| i32::try_from(step).ok())?;
                power_before = cell.power_mw.0;
                cells
                    .push(PackedCell {
                        time_us: cell.time_us,
                        power_step_mw,
                    })
                    .ok()?;
            }
            let packed = PackedRow {
                cores: row.mode.cores,
                cpu_index: index_in(&cpu_khz, row.mode.cpu_khz)?,
                gpu_index: index_in(&gpu_khz, row.mode.gpu_khz)?,
                emc_index: index_in(&emc_khz, row.mode.emc_khz)?,
                filled,
                cells,
            };
            rows.push(packed).ok()?;
        }
        Some(Self {
            board: plan.board.clone(),
            provenance: plan.provenance.clone(),
            train: plan.train.clone(),
            infer: plan.infer.clone(),
            cpu_khz,
            gpu_khz,
            emc_khz,
            rows,
        })
    }

    fn unpack(self) -> Option<PlanTable> {
        let mut plan = PlanTable {
            board: self.board,
            provenance: self.provenance,
            train: self.train,
            infer: self.infer,
            rows: Vec::new(),
        };
        let slots = plan.slot_count();
        let mut power_before = 0u32;
        for packed in &self.rows {
            let mode = PowerMode {
                cores: packed.cores,
                cpu_khz: *self.cpu_khz.get(usize::from(packed.cpu_index))?,
                gpu_khz: *self.gpu_khz.get(usize::from(packed.gpu_index))?,
                emc_khz: *self.emc_khz.get(usize::from(packed.emc_index))?,
            };
            let mut packed_cells = packed.cells.iter();
            let mut cells = Vec::new();
            for slot in 0..slots {
                let bit = 1u32.checked_shl(u32::try_from(slot).ok()?)?;
                let cell = if packed.filled & bit == 0 {
                    None
                } else {
                    let packed_cell = packed_cells.next()?;
                    power_before = power_before.checked_add_signed(packed_cell.power_step_mw)?;
                    let power_mw = MilliWatt(power_before);
                    Some(Cell {
                        time_us: packed_cell.time_us,
                        power_mw,
                    })
                };
                cells.push(cell).ok()?;
            }
            plan.rows.push(Row { mode, cells }).ok()?;
        }
        Some(plan)
    }
}

/// A postcard sink that compares instead of writing: the canonical form is checked without a buffer.
struct Compare<'a> {
    expected: &'a [u8],
}

impl postcard::ser_flavors::Flavor for Compare<'_> {
    type Output = bool;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        match self.expected.split_first() {
            Some((first, rest)) if *first == byte => {
                self.expected = rest;
                Ok(())
            }
            _ => Err(postcard::Error::SerializeBufferFull),
        }
    }

    fn finalize(self) -> postcard::Result<bool> {
        Ok(self.expected.is_empty())
    }
}

/// Writes a plan into `buffer` and returns the part that was written. Does not allocate.
///
/// # Errors
/// [`EncodeError::Check`] if the plan breaks a rule, [`EncodeError::Full`] if the buffer is too small.
pub fn encode<'a>(
    plan: &PlanTable,
    board: &Board,
    buffer: &'a mut [u8],
) -> Result<&'a [u8], EncodeError> {
    check(plan, board).map_err(EncodeError::Check)?;
    let length = write_frame(plan, buffer).ok_or(EncodeError::Full)?;
    buffer.get(..length).ok_or(EncodeError::Full)
}

fn write_frame(plan: &PlanTable, buffer: &mut [u8]) -> Option<usize> {
    let payload = Payload::pack(plan)?;
    let room = buffer.get_mut(HEADER_LEN..)?;
    let payload_len = postcard::to_slice(&payload, room).ok()?.len();
    let mut header = [0u8; HEADER_LEN];
    header.get_mut(..4)?.copy_from_slice(&MAGIC);
    header
        .get_mut(4..6)?
        .copy_from_slice(&VERSION.to_le_bytes());
    header
        .get_mut(8..16)?
        .copy_from_slice(&SCHEMA_KEY.to_le_bytes());
    header
        .get_mut(16..20)?
        .copy_from_slice(&u32::try_from(payload_len).ok()?.to_le_bytes());
    buffer.get_mut(..HEADER_LEN)?.copy_from_slice(&header);
    let end = HEADER_LEN.checked_add(payload_len)?;
    let crc = checksum(buffer.get(..end)?);
    let length = end
        .checked_add(CRC_LEN)
        .filter(|length| *length <= LEN_MAX)?;
    buffer
        .get_mut(end..length)?
        .copy_from_slice(&crc.to_le_bytes());
    Some(length)
}

/// Little-endian integer at an offset; zero where there is nothing, which no caller can reach after
/// the length check.
fn le<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .unwrap_or([0; N])
}

/// Splits a frame into its payload after checking everything around it.
fn open_frame(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    if !bytes.starts_with(&MAGIC) && bytes.len() >= MAGIC.len() {
        return Err(DecodeError::NotAPlan);
    }
    let shortest = HEADER_LEN.saturating_add(CRC_LEN);
    if bytes.len() < shortest || bytes.len() > LEN_MAX {
        return Err(DecodeError::Size(bytes.len()));
    }
    let payload_len = u32::from_le_bytes(le(bytes, 16));
    let declared = u64::from(payload_len).saturating_add(shortest as u64);
    match declared.cmp(&(bytes.len() as u64)) {
        core::cmp::Ordering::Greater => {
            return Err(DecodeError::Truncated {
                declared,
                found: bytes.len(),
            });
        }
        core::cmp::Ordering::Less => return Err(DecodeError::Trailing),
        core::cmp::Ordering::Equal => {}
    }
    let (covered, crc) = bytes.split_at(bytes.len().saturating_sub(CRC_LEN));
    if checksum(covered) != u32::from_le_bytes(le(crc, 0)) {
        return Err(DecodeError::Checksum);
    }
    let version = u16::from_le_bytes(le(bytes, 4));
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let flags = u16::from_le_bytes(le(bytes, 6));
    if flags != 0 {
        return Err(DecodeError::Flags(flags));
    }
    let schema = u64::from_le_bytes(le(bytes, 8));
    if schema != SCHEMA_KEY {
        return Err(DecodeError::Schema(schema));
    }
    covered
        .get(HEADER_LEN..)
        .ok_or(DecodeError::Size(bytes.len()))
}

/// Reads a plan for one of `boards`. Does not allocate and does not panic, whatever the bytes.
///
/// A device passes its own board alone, a workstation all that it knows.
///
/// # Errors
/// A variant of [`DecodeError`] per reason; the plan is only returned after every check.
pub fn decode(bytes: &[u8], boards: &[Board]) -> Result<PlanTable, DecodeError> {
    let payload_bytes = open_frame(bytes)?;
    let (payload, rest) =
        postcard::take_from_bytes::<Payload>(payload_bytes).map_err(|_| DecodeError::Payload)?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing);
    }
    let plan = payload.unpack().ok_or(DecodeError::Payload)?;
    let canonical = Payload::pack(&plan).ok_or(DecodeError::Payload)?;
    let compare = Compare {
        expected: payload_bytes,
    };
    if postcard::serialize_with_flavor(&canonical, compare) != Ok(true) {
        return Err(DecodeError::NotCanonical);
    }
    let Some(board) = boards.iter().find(|board| board.name == plan.board) else {
        return Err(DecodeError::Board(plan.board));
    };
    check(&plan, board).map_err(DecodeError::Check)?;
    Ok(plan)
}
