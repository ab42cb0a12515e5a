//! How values compare, and exact totals: as `language.values` and `traits.kinds.totals`.

use std::cmp::Ordering;

use num_bigint::{BigInt, BigUint, Sign};
use num_traits::{FromPrimitive, ToPrimitive, Zero};

use crate::value::{Value, FEW_KEYS};

/// Characters; longer text is never read as a number or a date.
pub const NUMBER_TEXT_MAX: usize = 64;
const PLAIN_MAX: i64 = 1 << 53;

/// A number as the language compares it: whole ones exactly, however long.
pub enum Number {
    Int(i128),
    Huge(BigInt),
    Float(f64),
}

/// A number, or text that reads as one.
pub fn number_of(value: &Value) -> Option<Number> {
    match value {
        Value::Int(number) => Some(Number::Int(i128::from(*number))),
        Value::Big(number) => Some(Number::Int(i128::from(*number))),
        Value::Float(number) => Some(Number::Float(*number)),
        Value::Text(text) => number_of_text(text),
        _ => None,
    }
}

fn number_of_text(text: &str) -> Option<Number> {
    let bytes = text.as_bytes();
    if bytes.len() > NUMBER_TEXT_MAX {
        return None;
    }
    let digits_from = |at: usize| bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let whole = digits_from(at);
    at += whole;
    if whole == 0 {
        return None;
    }
    if at == bytes.len() {
        return match text.parse::<i128>() {
            Ok(number) => Some(Number::Int(number)),
            Err(_) => text.parse::<BigInt>().ok().map(Number::Huge),
        };
    }
    if bytes[at] == b'.' {
        let fraction = digits_from(at + 1);
        at += 1 + fraction;
        if fraction == 0 {
            return None;
        }
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = if at <= bytes.len() { digits_from(at) } else { 0 };
        at += exponent;
        if exponent == 0 {
            return None;
        }
    }
    if at != bytes.len() {
        return None;
    }
    text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Number::Float)
}

fn compare(one: &Number, other: &Number) -> Ordering {
    match (one, other) {
        (Number::Int(one), Number::Int(other)) => one.cmp(other),
        (Number::Float(one), Number::Float(other)) => one.partial_cmp(other).unwrap_or(Ordering::Equal),
        (Number::Float(_), _) => compare(other, one).reverse(),
        (Number::Int(one), Number::Float(other)) => whole_with_float(&BigInt::from(*one), *other),
        (Number::Huge(one), Number::Float(other)) => whole_with_float(one, *other),
        (Number::Int(one), Number::Huge(other)) => BigInt::from(*one).cmp(other),
        (Number::Huge(one), Number::Int(other)) => one.cmp(&BigInt::from(*other)),
        (Number::Huge(one), Number::Huge(other)) => one.cmp(other),
    }
}

fn whole_with_float(one: &BigInt, other: f64) -> Ordering {
    let Some(cut) = BigInt::from_f64(other.trunc()) else { return Ordering::Equal };
    one.cmp(&cut).then_with(|| 0.0_f64.partial_cmp(&other.fract()).unwrap_or(Ordering::Equal))
}

/// The `=` of the language.
pub fn equal(left: &Value, right: &Value) -> bool {
    // Two texts are equal when they are the same text; a text and a number meet as numbers.
    if let (Value::Text(one), Value::Text(other)) = (left, right) {
        return one == other;
    }
    if let (Some(one), Some(other)) = (number_of(left), number_of(right)) {
        return compare(&one, &other) == Ordering::Equal;
    }
    text_of(left) == text_of(right)
}

/// The `<` of the language.
pub fn less(left: &Value, right: &Value) -> bool {
    if let (Some(one), Some(other)) = (number_of(left), number_of(right)) {
        return compare(&one, &other) == Ordering::Less;
    }
    text_of(left) < text_of(right)
}

/// A JSON number in canonical form; None for everything else.
pub fn measure(value: &Value) -> Option<Value> {
    match value {
        Value::Int(_) | Value::Big(_) => Some(value.clone()),
        Value::Float(number) => measure_float(*number),
        _ => None,
    }
}

fn measure_float(number: f64) -> Option<Value> {
    if number.fract() == 0.0 {
        if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number) {
            return Some(Value::Int(number as i64));
        }
        if (0.0..18_446_744_073_709_551_616.0).contains(&number) {
            return Some(Value::Big(number as u64));
        }
    }
    number.is_finite().then_some(Value::Float(number))
}

/// A number, or text that reads as one, in canonical form.
pub fn as_number(value: &Value) -> Option<Value> {
    match number_of(value)? {
        Number::Float(number) => measure_float(number),
        Number::Int(number) => match i64::try_from(number) {
            Ok(number) => Some(Value::Int(number)),
            Err(_) => match u64::try_from(number) {
                Ok(number) => Some(Value::Big(number)),
                Err(_) => Some(Value::Float(number as f64)),
            },
        },
        Number::Huge(number) => number.to_f64().filter(|number| number.is_finite()).map(Value::Float),
    }
}

/// The value as text: numbers in canonical form, arrays and objects as compact JSON with sorted keys.
pub fn text_of(value: &Value) -> String {
    let mut out = Vec::new();
    match value {
        Value::Text(text) => return text.to_string(),
        _ => measure(value).as_ref().unwrap_or(value).put_canonical(&mut out),
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether two numbers, measured before, are in this order; of equal ones neither is less.
pub fn precedes(one: &Value, other: &Value) -> bool {
    match (number_of(one), number_of(other)) {
        (Some(one), Some(other)) => compare(&one, &other) == Ordering::Less,
        _ => false,
    }
}

/// Whether two JSON values are the same one: of one type, and alike.
pub fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(one), Value::Bool(other)) => one == other,
        (Value::Int(one), Value::Int(other)) => one == other,
        (Value::Big(one), Value::Big(other)) => one == other,
        (Value::Float(one), Value::Float(other)) => one == other,
        (Value::Text(one), Value::Text(other)) => one == other,
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => {
            left.canonical() == right.canonical()
        }
        _ => false,
    }
}

/// Whether Python's `==` calls them equal, and they are of one type: inside arrays 1, 1.0 and true are one.
pub fn alike(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => loosely(left, right),
        _ => same(left, right),
    }
}

fn loosely(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| loosely(one, other))
        }
        (Value::Object(one), Value::Object(other)) if one.len() != other.len() => false,
        (Value::Object(one), Value::Object(_)) if one.len() <= FEW_KEYS => {
            one.iter().all(|(key, value)| right.get(key).is_some_and(|held| loosely(value, held)))
        }
        (Value::Object(one), Value::Object(other)) => sorted(one)
            .iter()
            .zip(sorted(other))
            .all(|((key, value), (other_key, held))| key == other_key && loosely(value, held)),
        _ => match (countable(left), countable(right)) {
            (Some(one), Some(other)) => compare(&one, &other) == Ordering::Equal,
            _ => same(left, right),
        },
    }
}

fn sorted(pairs: &[(Box<str>, Value)]) -> Vec<&(Box<str>, Value)> {
    let mut order: Vec<_> = pairs.iter().collect();
    order.sort_by(|one, other| one.0.cmp(&other.0));
    order
}

fn countable(value: &Value) -> Option<Number> {
    match value {
        Value::Bool(value) => Some(Number::Int(i128::from(*value))),
        Value::Text(_) => None,
        _ => number_of(value),
    }
}

/// digits / 10^scale, without needless zeros after the point.
pub struct Total {
    digits: BigInt,
    scale: u32,
}

impl Total {
    /// A whole number.
    pub fn whole(number: i128) -> Total {
        Total { digits: BigInt::from(number), scale: 0 }
    }

    /// The shortest decimal text of a measured number, exactly.
    pub fn of(number: &Value) -> Option<Total> {
        match number {
            Value::Int(number) => Some(Total::whole(i128::from(*number))),
            Value::Big(number) => Some(Total::whole(i128::from(*number))),
            Value::Float(number) => {
                let mut buffer = ryu::Buffer::new();
                let text = buffer.format_finite(*number);
                let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
                let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
                let digits = format!("{whole}{fraction}").parse::<BigInt>().ok()?;
                let scale = i64::try_from(fraction.len()).ok()? - exponent.parse::<i64>().ok()?;
                Some(Total::canonical(digits, scale))
            }
            _ => None,
        }
    }

    /// As it stands in a state: digits (a text beyond 2^53) and scale.
    pub fn read(digits: &Value, scale: &Value) -> Option<Total> {
        let scale = u32::try_from(scale.as_int()?).ok()?;
        let digits = match digits {
            Value::Int(digits) => BigInt::from(*digits),
            Value::Text(digits) => digits.parse().ok()?,
            _ => return None,
        };
        Some(Total { digits, scale })
    }

    /// The same the other way.
    pub fn written(&self) -> (Value, Value) {
        let digits = match self.digits.to_i64() {
            Some(digits) if -PLAIN_MAX < digits && digits < PLAIN_MAX => Value::Int(digits),
            _ => Value::Text(self.digits.to_string().into()),
        };
        (digits, Value::Int(i64::from(self.scale)))
    }

    fn canonical(mut digits: BigInt, mut scale: i64) -> Total {
        if scale < 0 {
            digits *= ten_to(-scale as u32);
            scale = 0;
        }
        if let Some(mut small) = digits.to_i64() {
            while scale > 0 && small % 10 == 0 {
                small /= 10;
                scale -= 1;
            }
            digits = BigInt::from(small);
        }
        let ten = BigInt::from(10);
        while scale > 0 && (&digits % &ten).is_zero() {
            digits /= &ten;
            scale -= 1;
        }
        Total { digits, scale: scale as u32 }
    }

    /// Both together.
    pub fn plus(&self, other: &Total) -> Total {
        let scale = self.scale.max(other.scale);
        let widened = |total: &Total| {
            if total.scale == scale {
                total.digits.clone()
            } else {
                &total.digits * ten_to(scale - total.scale)
            }
        };
        Total::canonical(widened(self) + widened(other), i64::from(scale))
    }

    /// Total by count, correctly rounded once; beyond what a float can hold, the largest one.
    pub fn quotient(&self, count: i64) -> Value {
        let denominator = ten_to(self.scale) * count;
        if (&self.digits % &denominator).is_zero() {
            let whole = &self.digits / &denominator;
            if let Some(number) = whole.to_i64() {
                return Value::Int(number);
            }
            if let Some(number) = whole.to_u64() {
                return Value::Big(number);
            }
        }
        let negative = self.digits.sign() == Sign::Minus;
        let number = divided(self.digits.magnitude(), denominator.magnitude());
        let number = if number.is_finite() { number } else { f64::MAX };
        Value::Float(if negative { -number } else { number })
    }
}

fn ten_to(power: u32) -> BigInt {
    BigInt::from(10).pow(power)
}

/// The nearest float to one whole number by another; of two as near, the even one.
fn divided(numerator: &BigUint, denominator: &BigUint) -> f64 {
    if numerator.is_zero() {
        return 0.0;
    }
    if let (Some(one), Some(other)) = (numerator.to_u64(), denominator.to_u64()) {
        if one <= PLAIN_MAX as u64 && other <= PLAIN_MAX as u64 {
            return one as f64 / other as f64;
        }
    }
    // A quotient of some 56 bits, its last one set if anything is left over, rounds as the true one does. Below the
    // least exponent there are fewer bits to round to: so it has no more than two beyond the last that a float has.
    let wanted = denominator.bits() as i64 - numerator.bits() as i64 + 56;
    let shift = wanted.min(1_076);
    let (upper, lower) = if shift >= 0 {
        (numerator << shift as u64, denominator.clone())
    } else {
        (numerator.clone(), denominator << (-shift) as u64)
    };
    let (quotient, rest) = (&upper / &lower, &upper % &lower);
    let bits = quotient.to_u64().unwrap_or(u64::MAX) | u64::from(!rest.is_zero());
    scaled(bits as f64, -shift)
}

/// number * 2^exponent, in steps of which only the last can round.
fn scaled(mut number: f64, mut exponent: i64) -> f64 {
    while exponent > 1_000 {
        number *= 2.0_f64.powi(1_000);
        exponent -= 1_000;
    }
    if exponent < -1_000 {
        number *= 2.0_f64.powi(-540);
        exponent += 540;
    }
    number * 2.0_f64.powi(exponent as i32)
}
