//! Names, kept small: profile ids in 21 bytes, external ids by a hash.

use std::hash::{BuildHasher, Hasher, RandomState};

const PREFIX: &[u8; 4] = b"use_";
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
pub const TEXT_BYTES: usize = 31;
const PACKED_BYTES: usize = 21;

/// `use_` and 27 base62 digits, of which each takes six bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(transparent)]
pub struct ProfileId([u8; PACKED_BYTES]);

impl ProfileId {
    pub const NONE: ProfileId = ProfileId([0; PACKED_BYTES]);

    /// The id in this text, if it is one.
    pub fn pack(text: &[u8]) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        if text.len() != TEXT_BYTES {
            return None;
        }
        let mut packed = [0; PACKED_BYTES];
        for (group, three) in digits.chunks(4).zip(packed.chunks_mut(3)) {
            let mut word = 0_u32;
            for &digit in group {
                word = word << 6 | u32::from(value_of(digit)?);
            }
            word <<= 6 * (4 - group.len());
            three.copy_from_slice(&word.to_be_bytes()[1..]);
        }
        Some(ProfileId(packed))
    }

    /// The id as everybody writes it.
    pub fn text(&self) -> [u8; TEXT_BYTES] {
        let mut text = [0; TEXT_BYTES];
        text[..4].copy_from_slice(PREFIX);
        for (group, three) in text[4..].chunks_mut(4).zip(self.0.chunks(3)) {
            let word = u32::from_be_bytes([0, three[0], three[1], three[2]]);
            for (place, digit) in group.iter_mut().enumerate() {
                *digit = DIGITS[(word >> (18 - 6 * place) & 63) as usize % DIGITS.len()];
            }
        }
        text
    }
}

fn value_of(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'Z' => Some(digit - b'A' + 10),
        b'a'..=b'z' => Some(digit - b'a' + 36),
        _ => None,
    }
}

/// Users or accounts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Collection {
    Users,
    Accounts,
}

impl Collection {
    pub fn name(self) -> &'static str {
        match self {
            Collection::Users => "users",
            Collection::Accounts => "accounts",
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "users" => Some(Collection::Users),
            "accounts" => Some(Collection::Accounts),
            _ => None,
        }
    }

    fn letter(self) -> u8 {
        match self {
            Collection::Users => b'u',
            Collection::Accounts => b'a',
        }
    }
}

/// Where the owner of an external id stands in the state.
pub fn owner_key(collection: Collection, type_: &[u8], value: &[u8], into: &mut Vec<u8>) {
    into.clear();
    into.extend_from_slice(&[b'o', collection.letter()]);
    into.extend_from_slice(type_);
    into.push(0);
    into.extend_from_slice(value);
}

/// Where a profile stands (`p`), or who an absorbed one is now (`r`).
pub fn profile_key(family: u8, id: ProfileId) -> [u8; TEXT_BYTES + 1] {
    let mut key = [family; TEXT_BYTES + 1];
    key[1..].copy_from_slice(&id.text());
    key
}

/// Where it stands that a profile is linked with another one.
pub fn link_key(one: ProfileId, other: ProfileId) -> [u8; 2 * TEXT_BYTES + 2] {
    let mut key = [0; 2 * TEXT_BYTES + 2];
    key[0] = b'l';
    key[1..=TEXT_BYTES].copy_from_slice(&one.text());
    key[TEXT_BYTES + 2..].copy_from_slice(&other.text());
    key
}

/// An external id as the cache knows it: 98 bits of a hash under keys that no sender knows. One look-up in 10^20 would
/// take one id for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Print {
    pub low: u64,
    pub high: u32,
    pub shard: u32,
}

/// Makes prints; its keys are drawn anew in each process, and nothing that is put out depends on them.
pub struct Prints(RandomState, RandomState);

pub const PRINT_HIGH_BITS: u32 = 24;
pub const SHARD_BITS: u32 = 10;

impl Prints {
    pub fn new() -> Self {
        Prints(RandomState::new(), RandomState::new())
    }

    /// The print of the external id whose owner stands under this key.
    pub fn of(&self, owner_key: &[u8]) -> Print {
        let hash = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write(owner_key);
            hasher.finish()
        };
        let more = hash(&self.1);
        Print {
            // 0 marks an empty place.
            low: hash(&self.0).max(1),
            high: (more & ((1 << PRINT_HIGH_BITS) - 1)) as u32,
            shard: (more >> 54) as u32 & ((1 << SHARD_BITS) - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_id_comes_out_as_it_went_in() {
        for text in
            ["use_0123456789ABCDEFGHIJKLMNOPQ", "use_zzzzzzzzzzzzzzzzzzzzzzzzzzz", "use_RSTUVWXYZabcdefghijklmnopqr"]
        {
            assert_eq!(ProfileId::pack(text.as_bytes()).map(|id| id.text().to_vec()), Some(text.as_bytes().to_vec()));
        }
        for text in [
            "",
            "use_",
            "use_zzzzzzzzzzzzzzzzzzzzzzzzzz",
            "use_zzzzzzzzzzzzzzzzzzzzzzzzzz-",
            "abc_zzzzzzzzzzzzzzzzzzzzzzzzzzz",
        ] {
            assert_eq!(ProfileId::pack(text.as_bytes()), None);
        }
    }
}
