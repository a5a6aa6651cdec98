//! Numbers as the kernel's files spell them.
//!
//! Everything here reads bytes and returns `None` for what is no number: the files belong to drivers
//! of many releases, and a surprise in one of them must not become a clock.

/// The number on the first line: decimal, or hexadecimal after `0x` (power-gating masks read either
/// way, jetson.md 1.3). Later lines are not looked at.
#[must_use]
pub fn parse_u64(bytes: &[u8]) -> Option<u64> {
    let text = first_line(bytes)?;
    match text.strip_prefix("0x") {
        Some(digits) => unsigned(digits, 16),
        None => unsigned(text, 10),
    }
}

/// Digits alone: no kernel spells a number with a plus.
fn unsigned(text: &str, radix: u32) -> Option<u64> {
    let value = u64::from_str_radix(text, radix).ok();
    value.filter(|_| !text.starts_with('+'))
}

/// The signed decimal number on the first line (temperatures).
#[must_use]
pub fn parse_i64(bytes: &[u8]) -> Option<i64> {
    let text = first_line(bytes)?;
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

/// The first line without its surrounding blanks and NULs; `None` when it is empty or not UTF-8.
#[must_use]
pub fn first_line(bytes: &[u8]) -> Option<&str> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let text = core::str::from_utf8(line).ok()?;
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\0');
    (!text.is_empty()).then_some(text)
}

/// The numbers of a table such as `scaling_available_frequencies`; ends at the first word that is no
/// number, because some tables carry their unit as text (`… 3199000 (kHz)`, jetson.md 1.4).
pub fn table(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    core::str::from_utf8(bytes)
        .unwrap_or_default()
        .split_ascii_whitespace()
        .map_while(|word| unsigned(word, 10))
}

/// A set of CPUs as bits, from `0-3,5` (`online`) or `0 1 2 3` (`related_cpus`). `None` for anything
/// else and for a CPU above 63.
#[must_use]
pub fn cpu_set(bytes: &[u8]) -> Option<u64> {
    let mut set = 0u64;
    for word in first_line(bytes)?
        .split([',', ' '])
        .filter(|word| !word.is_empty())
    {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let (first, last) = (unsigned(first, 10)?, unsigned(last, 10)?);
        if first > last {
            return None;
        }
        for cpu in first..=last {
            set |= 1u64.checked_shl(u32::try_from(cpu).ok()?)?;
        }
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_at_their_line() {
        assert_eq!(parse_u64(b"2201600\n"), Some(2_201_600));
        assert_eq!(parse_u64(b" 248 \n"), Some(248));
        assert_eq!(parse_u64(b"0xf0\n"), Some(240));
        assert_eq!(parse_u64(b"5\n00000\n"), Some(5));
        assert_eq!(parse_i64(b"-256000\n"), Some(-256_000));
    }

    #[test]
    fn what_is_no_number_is_none() {
        for bad in [
            &b""[..],
            b"\n",
            b"<unsupported>\n",
            b"-1\n",
            b"+1\n",
            b"0x+f\n",
            b"1.5\n",
            b"0x\n",
            b"99999999999999999999\n",
            b"\xff\xfe\n",
        ] {
            assert_eq!(parse_u64(bad), None, "{bad:?}");
        }
        for bad in [&b"41.5\n"[..], b"+41\n", b"--1\n"] {
            assert_eq!(parse_i64(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn tables_end_at_the_unit() {
        let rates = b"204000 665600 2133000 (kHz)\n";
        assert!(table(rates).eq([204_000, 665_600, 2_133_000]));
        assert!(table(b"306000000 408000000 \n").eq([306_000_000, 408_000_000]));
        assert_eq!(table(b"").count(), 0);
        assert!(table(b"204000 +665600\n").eq([204_000]));
    }

    #[test]
    fn cpu_sets_in_both_spellings() {
        assert_eq!(cpu_set(b"0-3,5\n"), Some(0b10_1111));
        assert_eq!(cpu_set(b"4 5 6 7 \n"), Some(0b1111_0000));
        assert_eq!(cpu_set(b"63\n"), Some(1 << 63));
        for bad in [&b"\n"[..], b"3-0\n", b"64\n", b"0-\n", b"+1\n", b"a\n"] {
            assert_eq!(cpu_set(bad), None, "{bad:?}");
        }
    }
}
