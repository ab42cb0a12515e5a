//! JSON values, and how they are written, as orjson and msgspec do it; `json` and `msgpack` read them.

pub use crate::json::Json;
pub use crate::msgpack::{put_msgpack_array, put_msgpack_int, put_msgpack_map, put_msgpack_text, Msgpack};
use crate::text::{put_json_string, put_number};

/// Objects within objects; what nests deeper is left to Python.
pub(crate) const DEPTH_MAX: usize = 128;
/// Definitions may nest a hundred deep, and each of their levels takes up to three of these.
pub(crate) const PLAN_DEPTH_MAX: usize = 512;
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
pub(crate) fn any_twice<'k, K: Ord + ?Sized + 'k>(keys: impl Iterator<Item = &'k K>) -> bool {
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
