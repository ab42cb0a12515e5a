//! Kafka's integers of variable length: zigzag, seven bits a byte, the lowest first.

/// The longest of them.
const BYTES_MAX: usize = 10;

/// Append one.
pub fn put(buffer: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        buffer.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    buffer.push(rest as u8);
}

/// How many bytes one takes.
pub fn length(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Take one off the front; None where the bytes end within it, or it is longer than any can be.
pub fn take(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for (place, &byte) in bytes.iter().take(BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            *bytes = &bytes[place + 1..];
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken() {
        for value in [0, 1, -1, 63, 64, -64, -65, 8_191, 8_192, i64::from(i32::MAX), i64::MAX, i64::MIN] {
            let mut buffer = Vec::new();
            put(&mut buffer, value);
            assert_eq!(buffer.len(), length(value), "{value}");
            buffer.push(7);
            let mut rest = buffer.as_slice();
            assert_eq!(take(&mut rest), Some(value));
            assert_eq!(rest, [7]);
        }
    }

    #[test]
    fn what_ends_too_early_is_none() {
        assert_eq!(take(&mut [0x80, 0x80].as_slice()), None);
        assert_eq!(take(&mut [0xff; 12].as_slice()), None);
    }
}
