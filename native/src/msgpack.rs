//! Writes and reads MessagePack as msgspec does it.

use crate::value::{Odd, Value, DEPTH_MAX};

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
