//! Locking the process's memory. Goal: it does what it reports, and never makes a later allocation fail. Method:
//! the kernel's own count of locked pages. Alone in its program, because it changes the whole process.

use fulcrum_runtime::engine::residency;
use std::fs;

/// Locked memory of this process in kB (proc(5), `VmLck`).
fn locked_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmLck:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn memory_is_locked_or_the_reason_is_told_and_memory_can_be_had_afterwards() {
    assert_eq!(locked_kb(), 0);
    let result = residency::keep();
    let lock_refused = result.is_err_and(|refused| refused.lock.is_some());
    assert_eq!(locked_kb() == 0, lock_refused, "{result:?}");
    if let Err(refused) = result {
        assert!(!refused.to_string().is_empty());
    }
    let block = vec![1_u8; 64 << 20];
    assert_eq!(
        block.iter().map(|&byte| u64::from(byte)).sum::<u64>(),
        64 << 20
    );
}
