//! The bytes of a journal: a magic, then records of `length: u16 LE | payload | CRC-32 LE`.
//!
//! The first record is the [`Header`], every other one a [`Record`], in postcard. The checksum is
//! CRC-32/ISO-HDLC over length and payload.

use super::{Header, JournalError, Record};
use crc::{CRC_32_ISO_HDLC, Crc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"FULJRN01";
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
const LENGTH_BYTES: usize = 2;
const CRC_BYTES: usize = 4;

/// What a journal holds.
pub(super) struct Parsed {
    pub(super) header: Header,
    pub(super) records: Vec<Record>,
    /// Bytes up to the end of the last complete record.
    intact: usize,
}

/// One framed payload, or why there is none.
enum Frame<'a> {
    Payload {
        payload: &'a [u8],
        end: usize,
    },
    /// The file ends within it, or it is the last one and damaged.
    Torn,
    /// Damaged, with more behind it.
    Damaged,
}

fn frame(bytes: &[u8], start: usize) -> Frame<'_> {
    let rest = &bytes[start..];
    let Some((length, _)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
        return Frame::Torn;
    };
    let body = LENGTH_BYTES + usize::from(u16::from_le_bytes(*length));
    if rest.len() < body + CRC_BYTES {
        return Frame::Torn;
    }
    let stored = &rest[body..body + CRC_BYTES];
    if CRC.checksum(&rest[..body]).to_le_bytes() != stored {
        let is_last = rest.len() == body + CRC_BYTES;
        return if is_last { Frame::Torn } else { Frame::Damaged };
    }
    Frame::Payload {
        payload: &rest[LENGTH_BYTES..body],
        end: start + body + CRC_BYTES,
    }
}

fn encode(payload: &impl Serialize) -> Vec<u8> {
    let payload = postcard::to_stdvec(payload).expect("a journal's types encode into memory");
    let length = u16::try_from(payload.len()).expect("names of a search are short");
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(payload);
    let crc = CRC.checksum(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

/// Reads all records; `None` for a file that ends before its header is complete.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Option<Parsed>, JournalError> {
    let magic = &bytes[..bytes.len().min(MAGIC.len())];
    if !MAGIC.starts_with(magic) {
        return Err(JournalError::Foreign {
            path: path.to_owned(),
        });
    }
    if bytes.len() < MAGIC.len() {
        return Ok(None);
    }
    let damaged = |offset: usize| JournalError::Damaged {
        path: path.to_owned(),
        offset: offset as u64,
    };
    let mut header = None;
    let mut records = Vec::new();
    let mut at = MAGIC.len();
    while at < bytes.len() {
        match frame(bytes, at) {
            Frame::Torn => break,
            Frame::Damaged => return Err(damaged(at)),
            Frame::Payload { payload, end } => {
                if header.is_none() {
                    header = Some(decode(payload).ok_or_else(|| damaged(at))?);
                } else {
                    records.push(decode(payload).ok_or_else(|| damaged(at))?);
                }
                at = end;
            }
        }
    }
    Ok(header.map(|header| Parsed {
        header,
        records,
        intact: at,
    }))
}

fn decode<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

/// An open journal, locked against a second writer, positioned at its end.
#[derive(Debug)]
pub(super) struct JournalFile {
    file: File,
    path: PathBuf,
}

impl JournalFile {
    /// Opens or creates; returns the records that are there.
    pub(super) fn open(path: &Path, header: &Header) -> Result<(Self, Vec<Record>), JournalError> {
        let io = |source| JournalError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(JournalError::Busy {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let records = match parse(path, &bytes)? {
            Some(parsed) => {
                check_same_search(path, &parsed.header, header)?;
                file.set_len(parsed.intact as u64).map_err(io)?;
                parsed.records
            }
            None => {
                file.set_len(0).map_err(io)?;
                file.rewind().map_err(io)?;
                let mut start = MAGIC.to_vec();
                start.extend(encode(header));
                file.write_all(&start).map_err(io)?;
                file.sync_all().map_err(io)?;
                sync_folder_of(path).map_err(io)?;
                Vec::new()
            }
        };
        file.seek(SeekFrom::End(0)).map_err(io)?;
        let path = path.to_owned();
        Ok((Self { file, path }, records))
    }

    /// Appends a record and makes it durable.
    pub(super) fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        let write = |file: &mut File| {
            file.write_all(&encode(record))?;
            file.sync_data()
        };
        write(&mut self.file).map_err(|source| JournalError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

/// Makes the name of a new file durable.
fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    File::open(folder)?.sync_all()
}

fn check_same_search(path: &Path, found: &Header, wanted: &Header) -> Result<(), JournalError> {
    let names = |header: &Header| {
        let names: Vec<String> = header.workloads.iter().map(ToString::to_string).collect();
        names.join(" ")
    };
    for (differs, found, wanted) in [
        ("board", found.board.clone(), wanted.board.clone()),
        ("source", found.source.clone(), wanted.source.clone()),
        ("workloads", names(found), names(wanted)),
        ("strategy", found.strategy.clone(), wanted.strategy.clone()),
        ("seed", found.seed.to_string(), wanted.seed.to_string()),
    ] {
        if found != wanted {
            return Err(JournalError::OtherSearch {
                path: path.to_owned(),
                differs,
                found,
                wanted,
            });
        }
    }
    Ok(())
}
