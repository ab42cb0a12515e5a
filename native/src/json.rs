//! Reads JSON: values, or only what is asked for.

use crate::msgpack::{put_msgpack_array, put_msgpack_map, put_msgpack_text};
use crate::text::plain_length;
use crate::value::{any_twice, Odd, Value, DEPTH_MAX, PLAN_DEPTH_MAX};

/// Reads JSON, strictly; numbers beyond 64 bits are odd.
pub struct Json<'a> {
    bytes: &'a [u8],
    pub at: usize,
    depth_max: usize,
}

impl<'a> Json<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Json { bytes, at: 0, depth_max: DEPTH_MAX }
    }

    /// The same for a topology version's plan, which is as deep as its definitions.
    pub fn of_plan(bytes: &'a [u8]) -> Self {
        Json { bytes, at: 0, depth_max: PLAN_DEPTH_MAX }
    }

    /// The next byte that is no white space, left where it is.
    pub fn peek(&mut self) -> Result<u8, Odd> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Ok(byte);
            }
            self.at += 1;
        }
        Err(Odd)
    }

    /// Take this byte.
    pub fn expect(&mut self, byte: u8) -> Result<(), Odd> {
        if self.peek()? != byte {
            return Err(Odd);
        }
        self.at += 1;
        Ok(())
    }

    /// Inside an object or array: is there another element? `first`: none was read yet.
    pub fn another(&mut self, close: u8, first: bool) -> Result<bool, Odd> {
        let byte = self.peek()?;
        if byte == close {
            self.at += 1;
            return Ok(false);
        }
        if !first {
            if byte != b',' {
                return Err(Odd);
            }
            self.at += 1;
        }
        Ok(true)
    }

    /// The next key of an object up to its value, or None at its end.
    pub fn key(&mut self, first: bool) -> Result<Option<Box<str>>, Odd> {
        if !self.another(b'}', first)? {
            return Ok(None);
        }
        let key = self.text()?;
        self.expect(b':')?;
        Ok(Some(key))
    }

    /// The next key of an object up to its value, where no escape is in it, or None at its end.
    pub fn plain_key(&mut self, first: bool) -> Result<Option<&'a str>, Odd> {
        if !self.another(b'}', first)? {
            return Ok(None);
        }
        if self.peek()? != b'"' {
            return Err(Odd);
        }
        let key = self.plain_text()?.ok_or(Odd)?;
        self.expect(b':')?;
        Ok(Some(key))
    }

    /// The string that begins here as it stands, where no escape is in it; None, and nothing taken, where there is one.
    pub fn plain_text(&mut self) -> Result<Option<&'a str>, Odd> {
        let start = self.at + 1;
        let size = plain_length(self.bytes.get(start..).ok_or(Odd)?);
        match self.bytes.get(start + size) {
            Some(b'"') => self.at = start + size + 1,
            Some(b'\\') => return Ok(None),
            _ => return Err(Odd),
        }
        std::str::from_utf8(&self.bytes[start..start + size]).map(Some).map_err(|_| Odd)
    }

    /// A string.
    pub fn text(&mut self) -> Result<Box<str>, Odd> {
        self.expect(b'"')?;
        let start = self.at;
        let size = plain_length(&self.bytes[start..]);
        let plain = std::str::from_utf8(&self.bytes[start..start + size]).map_err(|_| Odd)?;
        self.at += size;
        match self.bytes.get(self.at).ok_or(Odd)? {
            b'"' => {
                self.at += 1;
                Ok(plain.into())
            }
            b'\\' => self.escaped(plain.to_owned()),
            _ => Err(Odd),
        }
    }

    fn escaped(&mut self, mut text: String) -> Result<Box<str>, Odd> {
        loop {
            let start = self.at;
            let size = plain_length(&self.bytes[start..]);
            text.push_str(std::str::from_utf8(&self.bytes[start..start + size]).map_err(|_| Odd)?);
            self.at += size + 1;
            match self.bytes.get(start + size).ok_or(Odd)? {
                b'"' => return Ok(text.into_boxed_str()),
                b'\\' => {}
                _ => return Err(Odd),
            }
            let escape = *self.bytes.get(self.at).ok_or(Odd)?;
            self.at += 1;
            text.push(match escape {
                b'"' | b'\\' | b'/' => char::from(escape),
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => self.escaped_char()?,
                _ => return Err(Odd),
            });
        }
    }

    fn escaped_char(&mut self) -> Result<char, Odd> {
        let high = self.hex()?;
        if !(0xd800..0xdc00).contains(&high) {
            return char::from_u32(high).ok_or(Odd);
        }
        if self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
            return Err(Odd);
        }
        self.at += 2;
        let low = self.hex()?;
        if !(0xdc00..0xe000).contains(&low) {
            return Err(Odd);
        }
        char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or(Odd)
    }

    fn hex(&mut self) -> Result<u32, Odd> {
        let digits = self.bytes.get(self.at..self.at + 4).ok_or(Odd)?;
        self.at += 4;
        digits.iter().try_fold(0, |number, &digit| Ok(number << 4 | char::from(digit).to_digit(16).ok_or(Odd)?))
    }

    /// Take these bytes if they come next.
    pub fn literal(&mut self, literal: &[u8]) -> bool {
        let comes = self.bytes[self.at..].starts_with(literal);
        if comes {
            self.at += literal.len();
        }
        comes
    }

    /// A whole number of 64 bits with a sign.
    pub fn int(&mut self) -> Result<i64, Odd> {
        let digits = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if (1..=18).contains(&digits) && matches!(self.bytes.get(self.at + digits), Some(b',' | b'}' | b']')) {
            // Nearly all; a zero in front is the encoder's only where it stands alone.
            let text = &self.bytes[self.at..self.at + digits];
            if digits == 1 || text[0] != b'0' {
                self.at += digits;
                return Ok(text.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')));
            }
        }
        self.peek()?;
        match self.number()? {
            Value::Int(number) => Ok(number),
            _ => Err(Odd),
        }
    }

    /// Any value.
    pub fn value(&mut self) -> Result<Value, Odd> {
        self.value_at(0)
    }

    fn value_at(&mut self, depth: usize) -> Result<Value, Odd> {
        if depth > self.depth_max {
            return Err(Odd);
        }
        match self.peek()? {
            b'"' => self.text().map(Value::Text),
            b'{' => {
                self.at += 1;
                let mut pairs: Vec<(Box<str>, Value)> = Vec::new();
                while let Some(key) = self.key(pairs.is_empty())? {
                    let value = self.value_at(depth + 1)?;
                    pairs.push((key, value));
                }
                if any_twice(pairs.iter().map(|(key, _)| &**key)) {
                    return Err(Odd);
                }
                Ok(Value::Object(pairs))
            }
            b'[' => {
                self.at += 1;
                let mut values = Vec::new();
                while self.another(b']', values.is_empty())? {
                    values.push(self.value_at(depth + 1)?);
                }
                Ok(Value::Array(values))
            }
            b't' => self.word(b"true", Value::Bool(true)),
            b'f' => self.word(b"false", Value::Bool(false)),
            b'n' => self.word(b"null", Value::Null),
            _ => self.number(),
        }
    }

    /// Pass over a value that an encoder wrote; whether it is well formed inside is seen when it is read.
    pub fn skip(&mut self) -> Result<std::ops::Range<usize>, Odd> {
        let first = self.peek()?;
        let start = self.at;
        if first == b'{' || first == b'[' {
            self.at = self.end_of_nested(start)?;
        } else if first == b'"' {
            self.at = self.end_of_text(start + 1)?;
        } else {
            let rest = &self.bytes[start..];
            self.at += rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']')).ok_or(Odd)?;
        }
        Ok(start..self.at)
    }

    fn end_of_text(&self, mut at: usize) -> Result<usize, Odd> {
        loop {
            match self.bytes.get(at).ok_or(Odd)? {
                b'"' => return Ok(at + 1),
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
    }

    fn end_of_nested(&self, mut at: usize) -> Result<usize, Odd> {
        let mut depth = 0usize;
        loop {
            match self.bytes.get(at).ok_or(Odd)? {
                b'"' => {
                    at = self.end_of_text(at + 1)?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth = depth.checked_sub(1).ok_or(Odd)?;
                    if depth == 0 {
                        return Ok(at + 1);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Write the value that comes as MessagePack, without making it.
    pub fn transcode(&mut self, out: &mut Vec<u8>) -> Result<(), Odd> {
        self.transcode_at(0, out)
    }

    fn transcode_at(&mut self, depth: usize, out: &mut Vec<u8>) -> Result<(), Odd> {
        if depth > DEPTH_MAX {
            return Err(Odd);
        }
        let first = self.peek()?;
        if first != b'{' && first != b'[' {
            self.value_at(depth)?.put_msgpack(out);
            return Ok(());
        }
        self.at += 1;
        // Most have few elements, and a head of one byte.
        let head = out.len();
        out.push(0);
        let mut size = 0;
        if first == b'[' {
            while self.another(b']', size == 0)? {
                self.transcode_at(depth + 1, out)?;
                size += 1;
            }
        } else {
            let mut keys: Vec<std::ops::Range<usize>> = Vec::new();
            while let Some(key) = self.key(size == 0)? {
                let start = out.len();
                put_msgpack_text(out, &key);
                keys.push(start..out.len());
                self.transcode_at(depth + 1, out)?;
                size += 1;
            }
            if any_twice(keys.into_iter().map(|span| &out[span])) {
                return Err(Odd);
            }
        }
        let mut written = Vec::with_capacity(5);
        if first == b'[' {
            put_msgpack_array(&mut written, size);
        } else {
            put_msgpack_map(&mut written, size);
        }
        out.splice(head..=head, written);
        Ok(())
    }

    fn word(&mut self, word: &[u8], value: Value) -> Result<Value, Odd> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(Odd);
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Result<Value, Odd> {
        let start = self.at;
        let digits = |json: &mut Self| {
            let from = json.at;
            while json.bytes.get(json.at).is_some_and(u8::is_ascii_digit) {
                json.at += 1;
            }
            json.at - from
        };
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        let first = self.at;
        let whole = digits(self);
        if whole == 0 || (whole > 1 && self.bytes[first] == b'0') {
            return Err(Odd);
        }
        let mut is_whole = true;
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            is_whole = false;
            if digits(self) == 0 {
                return Err(Odd);
            }
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            is_whole = false;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if digits(self) == 0 {
                return Err(Odd);
            }
        }
        let text = std::str::from_utf8(&self.bytes[start..self.at]).map_err(|_| Odd)?;
        if is_whole {
            return match text.parse::<i64>() {
                Ok(number) => Ok(Value::Int(number)),
                Err(_) => text.parse::<u64>().map(Value::Big).map_err(|_| Odd),
            };
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Float(number)),
            _ => Err(Odd),
        }
    }
}
