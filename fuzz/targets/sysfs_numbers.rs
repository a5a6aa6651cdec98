//! What a driver writes into a file is a number exactly when it is spelled as one, and nothing else
//! becomes a clock.
#![no_main]

use fulcrum_runtime::board::number::{cpu_set, first_line, parse_i64, parse_u64, table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let line = first_line(data);
    if let Some(line) = line {
        assert!(!line.is_empty() && !line.contains('\n'));
        assert_eq!(first_line(line.as_bytes()), Some(line));
    }
    if let Some(number) = parse_u64(data) {
        assert_eq!(parse_u64(format!(" {number}\n").as_bytes()), Some(number));
        assert_eq!(parse_u64(format!("{number:#x}\n").as_bytes()), Some(number));
        assert!(line.is_some_and(|line| line.ends_with(|c: char| c.is_ascii_hexdigit())));
    }
    if let Some(number) = parse_i64(data) {
        assert_eq!(parse_i64(format!("{number}\n").as_bytes()), Some(number));
        // A minus sign is no part of an unsigned number, not even in -0.
        let signed = line.is_some_and(|line| line.starts_with('-'));
        if let (Ok(positive), false) = (u64::try_from(number), signed) {
            assert_eq!(parse_u64(data), Some(positive), "the two readers differ");
        }
    }
    let numbers: Vec<u64> = table(data).collect();
    let spelled: Vec<String> = numbers.iter().map(u64::to_string).collect();
    assert!(table(spelled.join(" ").as_bytes()).eq(numbers));
    if let Some(set) = cpu_set(data) {
        let cpus: Vec<String> = (0..64)
            .filter(|cpu| set & (1 << cpu) != 0)
            .map(|cpu: u32| cpu.to_string())
            .collect();
        if !cpus.is_empty() {
            assert_eq!(cpu_set(cpus.join(",").as_bytes()), Some(set));
        }
    }
});
