//! When an event happened. ISO-8601 texts as instants, in the forms that senders write: `2026-01-31T10:00:00`, with a fraction or without, `Z` or
//! an offset. All others are left to the walk in Python.

use crate::text::{days_of, Instant, DAY_MS};

/// The last millisecond of the year 9999.
pub const INSTANT_MAX: Instant = 253_402_300_799_999;
/// Where the times of an event stand among them.
pub const TIMESTAMP: usize = 0;
pub const ORIGINAL: usize = 1;
pub const SENT: usize = 2;
pub const RECEIVED: usize = 3;

const MINUTE_MS: i64 = 60_000;
const FRACTION_DIGITS_MAX: usize = 9;

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// The instant in this text, if it has one of these forms.
pub fn parse_instant(text: &[u8]) -> Option<Instant> {
    if text.len() < 20 || text[4] != b'-' || text[7] != b'-' || text[10] != b'T' || text[13] != b':' || text[16] != b':'
    {
        return None;
    }
    let (year, month, day) = (digits(&text[..4])?, digits(&text[5..7])?, digits(&text[8..10])?);
    let (hour, minute, second) = (digits(&text[11..13])?, digits(&text[14..16])?, digits(&text[17..19])?);
    if !(1970..9999).contains(&year) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut rest = &text[19..];
    let mut ms = 0;
    if rest[0] == b'.' {
        let count = rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 || count > FRACTION_DIGITS_MAX {
            return None;
        }
        let (fraction, _) = rest[1..].split_at(count);
        ms = (0..3).fold(0, |ms, place| ms * 10 + fraction.get(place).map_or(0, |digit| i64::from(digit - b'0')));
        rest = &rest[1 + count..];
    }
    let of_day = hour * 60 * MINUTE_MS + minute * MINUTE_MS + second * 1_000 + ms;
    Some(days_of(year, month, day)? * DAY_MS + of_day - offset(rest)?)
}

/// How far a zone is ahead of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let ahead = (hours * 60 + minutes) * MINUTE_MS;
            Some(if *sign == b'+' { ahead } else { -ahead })
        }
        _ => None,
    }
}

/// Event time by the skew formula, as `intake.checks.time_of`.
pub fn time_of(times: &[Option<Instant>; 4], timestamp: Instant) -> Option<Instant> {
    let received = times[RECEIVED].unwrap_or(timestamp.clamp(0, INSTANT_MAX));
    let time = match times[SENT] {
        None => times[TIMESTAMP].or(times[ORIGINAL]).unwrap_or(received),
        Some(sent) => match times[ORIGINAL].or(times[TIMESTAMP]) {
            None => received,
            Some(made) => received - (sent - made),
        },
    };
    (0..=INSTANT_MAX).contains(&time).then_some(time)
}
