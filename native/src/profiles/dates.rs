//! Full ISO-8601 timestamps in values, as `language.values.date_of` reads them.

use pyo3::prelude::*;

use super::numbers::NUMBER_TEXT_MAX;
use crate::text::{days_of, Instant, DAY_MS};

const INSTANT_MIN: Instant = -62_135_596_800_000;
const INSTANT_MAX: Instant = 253_402_300_799_999;

/// `2026-01-31T10:00[:00[.000]]` with `Z` or an offset as an instant; None for everything else.
pub fn date_of(text: &str) -> Option<Instant> {
    if text.len() > NUMBER_TEXT_MAX {
        return None;
    }
    let bytes = text.as_bytes();
    let two = |at: usize| -> Option<i64> {
        let digits = bytes.get(at..at + 2)?;
        digits.iter().all(u8::is_ascii_digit).then(|| i64::from(digits[0] - 48) * 10 + i64::from(digits[1] - 48))
    };
    let is = |at: usize, byte: u8| bytes.get(at) == Some(&byte);
    let year = two(0)? * 100 + two(2)?;
    if !is(4, b'-') || !is(7, b'-') || !is(10, b'T') || !is(13, b':') {
        return None;
    }
    let (month, day, hour, minute) = (two(5)?, two(8)?, two(11)?, two(14)?);
    let (mut second, mut ms, mut at) = (0, 0, 16);
    if is(at, b':') {
        second = two(at + 1)?;
        at += 3;
        if is(at, b'.') {
            let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return None;
            }
            for place in 0..3 {
                let digit = if place < digits { i64::from(bytes[at + 1 + place] - 48) } else { 0 };
                ms = ms * 10 + digit;
            }
            at += 1 + digits;
        }
    }
    let offset = match bytes.get(at)? {
        b'Z' if at + 1 == bytes.len() => 0,
        sign @ (b'+' | b'-') => {
            let (hours, colon) = (two(at + 1)?, usize::from(is(at + 3, b':')));
            let minutes = two(at + 3 + colon)?;
            if at + 5 + colon != bytes.len() {
                return None;
            }
            if hours > 23 || minutes > 59 {
                return as_python_reads(text);
            }
            (hours * 60 + minutes) * if *sign == b'-' { -60_000 } else { 60_000 }
        }
        _ => return None,
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let instant =
        days_of(year, month, day)? * DAY_MS + hour * 3_600_000 + minute * 60_000 + second * 1_000 + ms - offset;
    (INSTANT_MIN..=INSTANT_MAX).contains(&instant).then_some(instant)
}

/// Offsets of which versions of Python think differently are theirs.
fn as_python_reads(text: &str) -> Option<Instant> {
    Python::attach(|py| {
        let values = py.import("cdp_stream.language.values").ok()?;
        values.call_method1("date_of", (text,)).ok()?.extract().ok()?
    })
}
