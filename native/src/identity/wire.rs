//! One pass over a record's JSON: where its parts stand, and whether they are in the encoder's own form.
//!
//! A reader gives up (`None`) on whatever needs a closer look: that record is left to the walk in Python. It holds every
//! value to the rules of intake, also those that nobody reads.

/// Objects and arrays inside one another. A little less than intake takes: what is deeper is rare, and left to it.
const DEPTH_MAX: u32 = 60;
/// Keys of one object that are compared with one another.
const KEYS_MAX: usize = 64;
/// More digits than these need a look at the number's size.
const DIGITS_MAX: usize = 18;

/// A piece of the text that is read: where it begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub start: usize,
    pub end: usize,
}

/// Text between quotes, as it stands. `escaped`: it is not what it means.
#[derive(Clone, Copy, Debug)]
pub struct Quoted {
    pub piece: Piece,
    pub escaped: bool,
}

/// An object as it stands. `canonical`: the encoder would write it so, byte for byte.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    pub piece: Piece,
    pub keys: usize,
    pub canonical: bool,
}

/// Reads one record from its beginning to its end.
pub struct Reader<'a> {
    pub raw: &'a [u8],
    pub at: usize,
    pub canonical: bool,
}

impl<'a> Reader<'a> {
    pub fn new(raw: &'a [u8]) -> Self {
        Reader { raw, at: 0, canonical: true }
    }

    /// The next byte, if there is one.
    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.raw.get(self.at).copied()
    }

    #[inline]
    pub fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.canonical = false;
            self.at += 1;
        }
    }

    /// The text between quotes; escapes are checked and left as they are.
    pub fn string(&mut self) -> Option<Quoted> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_run(&self.raw[self.at..]);
            match self.peek()? {
                b'"' => {
                    let piece = Piece { start, end: self.at };
                    self.at += 1;
                    return Some(Quoted { piece, escaped });
                }
                b'\\' => {
                    escaped = true;
                    self.canonical = false;
                    self.escape()?;
                }
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        self.at += 1;
        match self.peek()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => {
                let digits = self.raw.get(self.at + 1..self.at + 5)?;
                // Perhaps half of a pair.
                if !digits.iter().all(u8::is_ascii_hexdigit) || matches!(digits[0], b'd' | b'D') {
                    return None;
                }
                self.at += 5;
            }
            _ => return None,
        }
        Some(())
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    /// Pass over a number. Exponents and long ones are left to a closer look.
    fn number(&mut self) -> Option<()> {
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let start = self.at;
        let whole = self.digits();
        if whole == 0 || whole > DIGITS_MAX || (whole > 1 && self.raw[start] == b'0') {
            return None;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            let fraction = self.digits();
            if fraction == 0 || fraction > DIGITS_MAX {
                return None;
            }
            // The shortest text of up to 15 digits is the text itself, but for zeroes at its end, and small numbers
            // that are written with an exponent.
            let ends_with_zero = fraction > 1 && self.raw[self.at - 1] == b'0';
            let small = fraction > 2 && self.raw[start] == b'0' && self.raw[start + 2..start + 4] == *b"00";
            if whole + fraction > 15 || ends_with_zero || small {
                self.canonical = false;
            }
        } else if negative && self.raw[start] == b'0' {
            self.canonical = false;
        }
        match self.peek() {
            Some(b'e' | b'E') => None,
            _ => Some(()),
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        if !self.raw[self.at..].starts_with(word) {
            return None;
        }
        self.at += word.len();
        Some(())
    }

    /// Pass over any value.
    pub fn value(&mut self, depth: u32) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b'{' => self.object(depth, |_, _| Some(false)).map(|_| ()),
            b'[' => self.array(depth),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn array(&mut self, depth: u32) -> Option<()> {
        self.at += 1;
        self.space();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.space();
            self.value(depth + 1)?;
            self.space();
            let next = self.peek()?;
            self.at += 1;
            match next {
                b']' => return Some(()),
                b',' => {}
                _ => return None,
            }
        }
    }

    /// The next key of an object, up to its value; `Some(None)` at the object's end.
    #[inline]
    pub fn key(&mut self, first: bool) -> Option<Option<Piece>> {
        self.space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(None);
        }
        if !first {
            self.word(b",")?;
            self.space();
        }
        if self.peek()? != b'"' {
            return None;
        }
        let key = self.string()?;
        if key.escaped {
            return None;
        }
        self.space();
        self.word(b":")?;
        self.space();
        self.peek()?;
        Some(Some(key.piece))
    }

    /// Pass over an object. `each` is asked at each value, and says whether it has read it.
    pub fn object(&mut self, depth: u32, mut each: impl FnMut(&mut Self, &'a [u8]) -> Option<bool>) -> Option<Object> {
        let start = self.at;
        let raw = self.raw;
        let outside = std::mem::replace(&mut self.canonical, true);
        let mut keys = [(0_u32, 0_u32); KEYS_MAX];
        let mut count = 0;
        self.at += 1;
        while let Some(piece) = self.key(count == 0)? {
            if count == KEYS_MAX {
                return None;
            }
            let key = &raw[piece.start..piece.end];
            // Of a key that stands there twice the last value counts.
            if keys[..count].iter().any(|&(from, to)| raw[from as usize..to as usize] == *key) {
                self.canonical = false;
            }
            keys[count] = (piece.start as u32, piece.end as u32);
            count += 1;
            if !each(self, key)? {
                self.value(depth + 1)?;
            }
        }
        let canonical = self.canonical;
        self.canonical = outside && canonical;
        Some(Object { piece: Piece { start, end: self.at }, keys: count, canonical })
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = 0x8080_8080_8080_8080;

/// How many bytes go by before a quote, a backslash or a control character; eight at a time.
#[inline]
fn plain_run(raw: &[u8]) -> usize {
    let mut at = 0;
    while let Some(word) = raw.get(at..at + 8) {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
        let quote = word ^ (ONES * u64::from(b'"'));
        let slash = word ^ (ONES * u64::from(b'\\'));
        // The lowest marked byte is exact, which is the one that counts.
        let found = (quote.wrapping_sub(ONES) & !quote)
            | (slash.wrapping_sub(ONES) & !slash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let found = found & TOPS;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < raw.len() && !matches!(raw[at], b'"' | b'\\' | 0..=0x1f) {
        at += 1;
    }
    at
}

/// What an escaped text means; `string` has checked it.
pub fn unescape(raw: &[u8], into: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(place) = rest.iter().position(|&byte| byte == b'\\') {
        into.extend_from_slice(&rest[..place]);
        let (plain, taken) = match rest.get(place + 1).copied().unwrap_or(b'\\') {
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{c}', 2),
            b'n' => ('\n', 2),
            b'r' => ('\r', 2),
            b't' => ('\t', 2),
            b'u' => {
                let digits = rest.get(place + 2..place + 6).and_then(|hex| std::str::from_utf8(hex).ok());
                let code = digits.and_then(|hex| u32::from_str_radix(hex, 16).ok());
                (code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER), 6)
            }
            other => (char::from(other), 2),
        };
        into.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &rest[(place + taken).min(rest.len())..];
    }
    into.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_at_the_first_byte_that_is_not_plain_text() {
        for length in 0..40 {
            for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
                let mut raw = vec![b'x'; length];
                raw.extend_from_slice(&[special, b'"', b'\\', 0, 0x80, 0xff, b'y', b'y', b'y', b'y']);
                assert_eq!(plain_run(&raw), length);
            }
        }
        assert_eq!(plain_run("aé\u{7f}\u{2028}Ω!#[]ÿ".as_bytes()), "aé\u{7f}\u{2028}Ω!#[]ÿ".len());
    }
}
