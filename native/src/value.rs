//! JSON values: read from JSON and MessagePack, written to both, as orjson and msgspec do it.

use crate::text::{put_json_string, put_number};

/// Objects within objects; what nests deeper is left to Python.
const DEPTH_MAX: usize = 128;
/// Definitions may nest a hundred deep, and each of their levels takes up to three of these.
const PLAN_DEPTH_MAX: usize = 512;
/// So many keys of an object are compared with one another; more are sorted first.
pub const FEW_KEYS: usize = 16;

/// A JSON value. Numbers are whole as long as 64 bits hold them, signed or not. An object keeps the order of its keys.
#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// Beyond what `Int` holds.
    Big(u64),
    Float(f64),
    Text(Box<str>),
    Array(Vec<Value>),
    Object(Vec<(Box<str>, Value)>),
}

/// What is read is not what it should be, or not what the compiled core takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Odd;

impl Value {
    /// No value.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The value under a key of an object; of anything else there is none.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Object(pairs) => pairs.iter().find(|(name, _)| &**name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The elements, if it is an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(values) => Some(values),
            _ => None,
        }
    }

    /// The whole number, if it is one of 64 bits with a sign.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The same text always for the same value, whatever the order of its keys; tells 1 from 1.0 and from true.
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put_canonical(&mut out);
        out
    }

    /// JSON with sorted keys.
    pub fn put_canonical(&self, out: &mut Vec<u8>) {
        self.put_json_as(out, true);
    }

    /// JSON with keys as they stand.
    pub fn put_json(&self, out: &mut Vec<u8>) {
        self.put_json_as(out, false);
    }

    fn put_json_as(&self, out: &mut Vec<u8>, sorted: bool) {
        match self {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            Value::Int(number) => put_number(out, *number),
            Value::Big(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Value::Float(number) => put_float(out, *number),
            Value::Text(text) => put_json_string(out, text),
            Value::Array(values) => {
                out.push(b'[');
                for (place, value) in values.iter().enumerate() {
                    if place > 0 {
                        out.push(b',');
                    }
                    value.put_json_as(out, sorted);
                }
                out.push(b']');
            }
            Value::Object(pairs) => {
                out.push(b'{');
                let mut order: Vec<&(Box<str>, Value)> = pairs.iter().collect();
                if sorted {
                    order.sort_by(|one, other| one.0.cmp(&other.0));
                }
                for (place, (key, value)) in order.into_iter().enumerate() {
                    if place > 0 {
                        out.push(b',');
                    }
                    put_json_string(out, key);
                    out.push(b':');
                    value.put_json_as(out, sorted);
                }
                out.push(b'}');
            }
        }
    }

    /// MessagePack, in the shortest form of each number and length.
    pub fn put_msgpack(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null => out.push(0xc0),
            Value::Bool(value) => out.push(0xc2 | u8::from(*value)),
            Value::Int(number) => put_msgpack_int(out, *number),
            Value::Big(number) => {
                out.push(0xcf);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Value::Float(number) => {
                out.push(0xcb);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Value::Text(text) => put_msgpack_text(out, text),
            Value::Array(values) => {
                put_msgpack_array(out, values.len());
                for value in values {
                    value.put_msgpack(out);
                }
            }
            Value::Object(pairs) => {
                put_msgpack_map(out, pairs.len());
                for (key, value) in pairs {
                    put_msgpack_text(out, key);
                    value.put_msgpack(out);
                }
            }
        }
    }
}

/// Does any key stand there twice?
fn any_twice<'k, K: Ord + ?Sized + 'k>(keys: impl Iterator<Item = &'k K>) -> bool {
    let mut keys: Vec<&K> = keys.collect();
    if keys.len() <= FEW_KEYS {
        return (1..keys.len()).any(|place| keys[..place].contains(&keys[place]));
    }
    keys.sort_unstable();
    keys.windows(2).any(|two| two[0] == two[1])
}

/// The shortest text that reads as this number again, as orjson writes it: msgspec has no plus before an exponent.
pub fn put_float(out: &mut Vec<u8>, number: f64) {
    if !number.is_finite() {
        // JSON has no such number.
        out.extend_from_slice(b"null");
        return;
    }
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(number);
    match text.split_once('e') {
        Some((mantissa, exponent)) if !exponent.starts_with('-') => {
            out.extend_from_slice(mantissa.as_bytes());
            out.extend_from_slice(b"e+");
            out.extend_from_slice(exponent.as_bytes());
        }
        _ => out.extend_from_slice(text.as_bytes()),
    }
}

pub fn put_msgpack_int(out: &mut Vec<u8>, number: i64) {
    match number {
        0..=0x7f => out.push(number as u8),
        -32..=-1 => out.push(number as i8 as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, number as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(number as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(number as u32).to_be_bytes());
        }
        0x1_0000_0000..=i64::MAX => {
            out.push(0xcf);
            out.extend_from_slice(&number.to_be_bytes());
        }
        -0x80..=-33 => out.extend_from_slice(&[0xd0, number as i8 as u8]),
        -0x8000..=-0x81 => {
            out.push(0xd1);
            out.extend_from_slice(&(number as i16).to_be_bytes());
        }
        -0x8000_0000..=-0x8001 => {
            out.push(0xd2);
            out.extend_from_slice(&(number as i32).to_be_bytes());
        }
        _ => {
            out.push(0xd3);
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

pub fn put_msgpack_text(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        size @ 0..=31 => out.push(0xa0 | size as u8),
        size @ 32..=0xff => out.extend_from_slice(&[0xd9, size as u8]),
        size @ 0x100..=0xffff => {
            out.push(0xda);
            out.extend_from_slice(&(size as u16).to_be_bytes());
        }
        size => {
            out.push(0xdb);
            out.extend_from_slice(&(size as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

pub fn put_msgpack_array(out: &mut Vec<u8>, size: usize) {
    put_head(out, size, 0x90, 0xdc);
}

pub fn put_msgpack_map(out: &mut Vec<u8>, size: usize) {
    put_head(out, size, 0x80, 0xde);
}

fn put_head(out: &mut Vec<u8>, size: usize, short: u8, long: u8) {
    match size {
        0..=15 => out.push(short | size as u8),
        16..=0xffff => {
            out.push(long);
            out.extend_from_slice(&(size as u16).to_be_bytes());
        }
        _ => {
            out.push(long + 1);
            out.extend_from_slice(&(size as u32).to_be_bytes());
        }
    }
}

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
        let start = self.at + 1;
        let size = self.bytes[start..].iter().position(|&byte| byte == b'"' || byte == b'\\').ok_or(Odd)?;
        if self.bytes[start + size] == b'\\' {
            return Err(Odd);
        }
        self.at = start + size + 1;
        self.expect(b':')?;
        std::str::from_utf8(&self.bytes[start..start + size]).map(Some).map_err(|_| Odd)
    }

    /// A string.
    pub fn text(&mut self) -> Result<Box<str>, Odd> {
        self.expect(b'"')?;
        let start = self.at;
        let size =
            self.bytes[start..].iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\').ok_or(Odd)?;
        let plain = std::str::from_utf8(&self.bytes[start..start + size]).map_err(|_| Odd)?;
        self.at += size;
        match self.bytes[self.at] {
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
            let size =
                self.bytes[start..].iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\').ok_or(Odd)?;
            text.push_str(std::str::from_utf8(&self.bytes[start..start + size]).map_err(|_| Odd)?);
            self.at += size + 1;
            match self.bytes[start + size] {
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

/// Reads MessagePack as msgspec writes it.
pub struct Msgpack<'a> {
    bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Msgpack<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Msgpack { bytes, at: 0 }
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], Odd> {
        let end = self.at.checked_add(size).ok_or(Odd)?;
        let taken = self.bytes.get(self.at..end).ok_or(Odd)?;
        self.at = end;
        Ok(taken)
    }

    fn unsigned(&mut self, size: usize) -> Result<u64, Odd> {
        Ok(self.take(size)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn size(&mut self, bytes: usize) -> Result<usize, Odd> {
        usize::try_from(self.unsigned(bytes)?).map_err(|_| Odd)
    }

    /// How many elements the array that comes has.
    pub fn array(&mut self) -> Result<usize, Odd> {
        match self.take(1)?[0] {
            head @ 0x90..=0x9f => Ok(usize::from(head & 0x0f)),
            0xdc => self.size(2),
            0xdd => self.size(4),
            _ => Err(Odd),
        }
    }

    /// How many pairs the map that comes has.
    pub fn map(&mut self) -> Result<usize, Odd> {
        match self.take(1)?[0] {
            head @ 0x80..=0x8f => Ok(usize::from(head & 0x0f)),
            0xde => self.size(2),
            0xdf => self.size(4),
            _ => Err(Odd),
        }
    }

    /// A text.
    pub fn text(&mut self) -> Result<&'a str, Odd> {
        let size = match self.take(1)?[0] {
            head @ 0xa0..=0xbf => usize::from(head & 0x1f),
            0xd9 => self.size(1)?,
            0xda => self.size(2)?,
            0xdb => self.size(4)?,
            _ => return Err(Odd),
        };
        std::str::from_utf8(self.take(size)?).map_err(|_| Odd)
    }

    /// A whole number of 64 bits with a sign.
    pub fn int(&mut self) -> Result<i64, Odd> {
        match self.value()? {
            Value::Int(number) => Ok(number),
            _ => Err(Odd),
        }
    }

    /// Any value.
    pub fn value(&mut self) -> Result<Value, Odd> {
        self.value_at(0)
    }

    fn value_at(&mut self, depth: usize) -> Result<Value, Odd> {
        if depth > DEPTH_MAX {
            return Err(Odd);
        }
        let head = *self.bytes.get(self.at).ok_or(Odd)?;
        if matches!(head, 0xa0..=0xbf | 0xd9..=0xdb) {
            return self.text().map(|text| Value::Text(text.into()));
        }
        if matches!(head, 0x90..=0x9f | 0xdc | 0xdd) {
            let size = self.array()?;
            return (0..size).map(|_| self.value_at(depth + 1)).collect::<Result<_, _>>().map(Value::Array);
        }
        if matches!(head, 0x80..=0x8f | 0xde | 0xdf) {
            let size = self.map()?;
            return (0..size)
                .map(|_| Ok((self.text()?.into(), self.value_at(depth + 1)?)))
                .collect::<Result<_, _>>()
                .map(Value::Object);
        }
        self.at += 1;
        Ok(match head {
            0x00..=0x7f => Value::Int(i64::from(head)),
            0xe0..=0xff => Value::Int(i64::from(head as i8)),
            0xc0 => Value::Null,
            0xc2 => Value::Bool(false),
            0xc3 => Value::Bool(true),
            0xcc => Value::Int(self.unsigned(1)? as i64),
            0xcd => Value::Int(self.unsigned(2)? as i64),
            0xce => Value::Int(self.unsigned(4)? as i64),
            0xcf => match self.unsigned(8)? {
                number if number <= i64::MAX as u64 => Value::Int(number as i64),
                number => Value::Big(number),
            },
            0xd0 => Value::Int(i64::from(self.unsigned(1)? as u8 as i8)),
            0xd1 => Value::Int(i64::from(self.unsigned(2)? as u16 as i16)),
            0xd2 => Value::Int(i64::from(self.unsigned(4)? as u32 as i32)),
            0xd3 => Value::Int(self.unsigned(8)? as i64),
            0xcb => Value::Float(f64::from_bits(self.unsigned(8)?)),
            _ => return Err(Odd),
        })
    }
}
