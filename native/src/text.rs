//! Texts that are derived or written out: instants, base 62, hashes of parts, JSON strings. As `model.time` and `model.ids`.

use blake2b_simd::Params;

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Instant = i64;

/// A length of time in milliseconds.
pub type Duration = i64;

pub const DAY_MS: i64 = 86_400_000;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Digits of a profile id and of every other long derived id.
pub const ID_DIGITS: usize = 27;

/// A whole number in decimal digits.
pub fn put_number(out: &mut Vec<u8>, number: i64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// The last digits of a whole number that is not negative, with zeros in front.
pub fn put_padded(out: &mut Vec<u8>, number: i64, digits: usize) {
    let mut text = [b'0'; 20];
    let mut rest = number.unsigned_abs();
    for digit in text[..digits].iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&text[..digits]);
}

/// `YYYY-MM-DDTHH:MM:SS.mmmZ`, the form of every instant in our records; years 1 to 9999.
pub fn put_instant(out: &mut Vec<u8>, instant: Instant) {
    let (year, month, day) = date_of(instant.div_euclid(DAY_MS));
    let of_day = instant.rem_euclid(DAY_MS);
    put_padded(out, year, 4);
    out.push(b'-');
    put_padded(out, month, 2);
    out.push(b'-');
    put_padded(out, day, 2);
    out.push(b'T');
    put_padded(out, of_day / 3_600_000, 2);
    out.push(b':');
    put_padded(out, of_day / 60_000 % 60, 2);
    out.push(b':');
    put_padded(out, of_day / 1_000 % 60, 2);
    out.push(b'.');
    put_padded(out, of_day % 1_000, 3);
    out.push(b'Z');
}

/// Year, month and day of a day since 1970, in the proleptic Gregorian calendar.
pub fn date_of(days: i64) -> (i64, i64, i64) {
    // The year is taken to begin in March, so that the day of a leap year comes last.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let january_or_february = i64::from(month >= 10);
    (year + era * 400 + january_or_february, if month < 10 { month + 3 } else { month - 9 }, day)
}

/// Days since 1970 of a date, or None where there is no such day.
pub fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=9_999).contains(&year) || !(1..=length).contains(&day) {
        return None;
    }
    let (year, month) = if month <= 2 { (year - 1, month + 12) } else { (year, month) };
    let of_year = (153 * (month - 3) + 2) / 5 + day - 1;
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// A 20-byte hash of parts, which cannot run into each other (`model.ids.derive`).
#[derive(Default)]
pub struct Derive {
    parts: Vec<u8>,
}

impl Derive {
    /// Of no parts yet.
    pub fn new() -> Self {
        Derive { parts: Vec::with_capacity(256) }
    }

    /// One more part.
    pub fn part(&mut self, part: &[u8]) -> &mut Self {
        put_number(&mut self.parts, part.len() as i64);
        self.parts.push(b':');
        self.parts.extend_from_slice(part);
        self
    }

    /// The hash in base 62, its last 27 digits.
    pub fn base62(&self) -> [u8; ID_DIGITS] {
        let hash = Params::new().hash_length(20).hash(&self.parts);
        let mut words = [0u32; 5];
        for (word, bytes) in words.iter_mut().zip(hash.as_bytes().chunks_exact(4)) {
            *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let mut digits = [0u8; ID_DIGITS];
        // Three digits at a time: 62³ still fits the remainder beside a word.
        for place in (0..ID_DIGITS).step_by(3).rev() {
            let mut rest = 0u64;
            for word in &mut words {
                let part = rest << 32 | u64::from(*word);
                *word = (part / 238_328) as u32;
                rest = part % 238_328;
            }
            digits[place] = BASE62[(rest / 3_844) as usize];
            digits[place + 1] = BASE62[(rest / 62 % 62) as usize];
            digits[place + 2] = BASE62[(rest % 62) as usize];
        }
        digits
    }
}

const EACH: u64 = 0x0101_0101_0101_0101;
const TOP: u64 = EACH << 7;

/// How many bytes come before the first that a JSON string does not hold as it is: a quote, a backslash, a control character.
pub fn plain_length(bytes: &[u8]) -> usize {
    // Eight at a time: what is zero once a byte is taken out borrows from its top bit.
    let zero = |word: u64| word.wrapping_sub(EACH) & !word;
    let mut at = 0;
    while let Some(eight) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        let quote = zero(word ^ (EACH * 0x22)) | zero(word ^ (EACH * 0x5c));
        let special = (quote | word.wrapping_sub(EACH * 0x20) & !word) & TOP;
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let is_special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    at + bytes[at..].iter().position(is_special).unwrap_or(bytes.len() - at)
}

/// A JSON string with its quotes, as orjson and msgspec write it.
pub fn put_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    loop {
        let at = from + plain_length(&bytes[from..]);
        out.extend_from_slice(&bytes[from..at]);
        let Some(&byte) = bytes.get(at) else { break };
        from = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(b"0123456789abcdef"[usize::from(byte >> 4)]);
                out.push(b"0123456789abcdef"[usize::from(byte & 15)]);
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::plain_length;

    #[test]
    fn what_a_json_string_does_not_hold_as_it_is_is_found_wherever_it_stands() {
        for byte in 0..=255u8 {
            let is_special = byte < 0x20 || byte == b'"' || byte == b'\\';
            for size in 0..20 {
                for place in 0..size {
                    let mut bytes = vec![0x80 | byte; size];
                    bytes[place] = byte;
                    let first = if is_special { place } else { size };
                    assert_eq!(plain_length(&bytes), first, "{byte} at {place} of {size}");
                }
            }
        }
    }
}
