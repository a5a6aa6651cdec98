//! A file of samples that is accepted can be read to its last sample, and its labels are classes. The
//! first byte chooses: the rest is a whole file, or header fields and records whose checksums are repaired.
#![no_main]

use fulcrum_fuzz::with_checksum;
use fulcrum_runtime::data::Records;
use libfuzzer_sys::fuzz_target;

const HEADER_BODY: usize = 20;

/// A file whose checksums match: a header's fields, then records of the size that the header says.
fn repaired(bytes: &[u8]) -> Option<Vec<u8>> {
    let (header, mut rest) = bytes.split_at_checked(HEADER_BODY)?;
    let elements = u32::from_le_bytes(*header.get(12..)?.first_chunk()?);
    let body = usize::try_from(elements)
        .ok()?
        .checked_mul(4)?
        .checked_add(8)?;
    let mut file = with_checksum(header);
    while let Some((record, after)) = rest.split_at_checked(body) {
        file.extend(with_checksum(record));
        rest = after;
    }
    file.extend(rest);
    Some(file)
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let file = if choice % 2 == 0 {
        Some(rest.to_vec())
    } else {
        repaired(rest)
    };
    let Some(Ok(records)) = file.map(Records::decode) else {
        return;
    };
    let mut sample = vec![0.0; records.elements()];
    for index in 0..records.count() {
        assert!((0..i64::from(records.classes())).contains(&records.label(index)));
        records.copy_sample(index, &mut sample);
    }
});
