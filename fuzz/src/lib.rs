//! Repairs that let a fuzzer past checksums: without them every mutation ends at the CRC.

/// CRC-32/ISCSI, the checksum of every format of Fulcrum.
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

/// Closes `body` with its checksum.
#[must_use]
pub fn with_checksum(body: &[u8]) -> Vec<u8> {
    let mut bytes = body.to_vec();
    bytes.extend(CRC.checksum(body).to_le_bytes());
    bytes
}

/// A sound plan frame around any payload.
#[must_use]
pub fn plan_frame(payload: &[u8]) -> Vec<u8> {
    use fulcrum_plan::wire::{MAGIC, SCHEMA_KEY, VERSION};
    let mut frame = MAGIC.to_vec();
    frame.extend(VERSION.to_le_bytes());
    frame.extend(0u16.to_le_bytes());
    frame.extend(SCHEMA_KEY.to_le_bytes());
    frame.extend((payload.len() as u32).to_le_bytes());
    frame.extend(payload);
    with_checksum(&frame)
}
