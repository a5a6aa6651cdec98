//! A file of samples that is accepted can be read to its last sample, and its labels are classes. The
//! first byte chooses: the rest is a whole file, or header fields and records whose checksums are repaired.
#![no_main]

use fulcrum_fuzz::with_checksum;
use fulcrum_runtime::data::{LabelKind, Records};
use libfuzzer_sys::fuzz_target;

const FIXED_BYTES: usize = 20;
/// Kind of a label that is values.
const VALUES: u8 = 2;
/// Kind of a label that is several classes.
const CLASSES: u8 = 3;

/// A file whose checksums match: a header's fields, then records of the size that the header says.
fn repaired(bytes: &[u8]) -> Option<Vec<u8>> {
    let fixed = bytes.first_chunk::<FIXED_BYTES>()?;
    let header_bytes = FIXED_BYTES + 8 * usize::from(fixed[7]);
    let (header, mut rest) = bytes.split_at_checked(header_bytes)?;
    let field = |at: usize| Some(u32::from_le_bytes(*fixed.get(at..)?.first_chunk()?));
    let label_bytes = match fixed[6] {
        VALUES => usize::try_from(field(16)?).ok()?.checked_mul(4)?,
        CLASSES => usize::try_from(field(16)?).ok()?.checked_mul(8)?,
        _ => 8,
    };
    let body = usize::try_from(field(12)?)
        .ok()?
        .checked_mul(4)?
        .checked_add(label_bytes)?;
    if body == 0 {
        // Records of nothing would never end; as a whole file they are refused.
        return None;
    }
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
        match records.labels() {
            LabelKind::Class(classes) => {
                assert!((0..i64::from(classes)).contains(&records.label(index)));
            }
            LabelKind::Values(values) => {
                assert_eq!(records.values(index).count(), values as usize);
            }
            LabelKind::Classes(classes) => {
                assert_eq!(records.classes(index).count(), classes as usize);
                assert!(records.classes(index).all(|class| class >= 0));
            }
        }
        records.copy_sample(index, &mut sample);
    }
});
