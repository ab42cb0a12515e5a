//! Profiles of the identity graph as the state holds them: `model.graph.GraphProfile` in MessagePack, read where it lies.

use super::ids::{Collection, ProfileId, TEXT_BYTES};
use crate::text::Instant;
use crate::value::{put_msgpack_array, put_msgpack_int, put_msgpack_text, Msgpack, Odd};

/// Id, collection, number, created, mappings, merges, absorbed, old links.
const FIELDS: usize = 8;
const MAPPING_FIELDS: usize = 4;

/// One external id on a profile.
#[derive(Clone, Copy)]
pub struct Mapping<'a> {
    pub type_: &'a str,
    pub value: &'a str,
    pub mapped_at: Instant,
    pub message_id: &'a str,
}

/// An array whose elements are read later, or copied as they are.
#[derive(Clone, Copy)]
pub struct Listed<'a> {
    pub count: usize,
    elements: &'a [u8],
}

/// A profile whose parts were found.
#[derive(Clone, Copy)]
pub struct Stored<'a> {
    pub number: i64,
    pub created: Instant,
    mappings: Listed<'a>,
    pub merges: u64,
    absorbed: Listed<'a>,
    /// Links of a state before format 3 are a matter for Python.
    pub has_old_links: bool,
}

impl<'a> Stored<'a> {
    /// What stands in these bytes. A profile in another form than ours is odd.
    pub fn read(raw: &'a [u8]) -> Result<Self, Odd> {
        let mut reader = Msgpack::new(raw);
        if reader.array()? != FIELDS {
            return Err(Odd);
        }
        reader.text()?;
        reader.text()?;
        let (number, created) = (reader.int()?, reader.int()?);
        let count = reader.array()?;
        let start = reader.at;
        for _ in 0..count {
            read_mapping(&mut reader)?;
        }
        let mappings = Listed { count, elements: &raw[start..reader.at] };
        let merges = u64::try_from(reader.int()?).map_err(|_| Odd)?;
        let count = reader.array()?;
        let start = reader.at;
        for _ in 0..count {
            reader.text()?;
        }
        let absorbed = Listed { count, elements: &raw[start..reader.at] };
        let has_old_links = reader.array()? > 0;
        Ok(Stored { number, created, mappings, merges, absorbed, has_old_links })
    }

    pub fn mappings_count(&self) -> usize {
        self.mappings.count
    }

    /// The external ids it holds, in the order in which they came.
    pub fn mappings(&self) -> impl Iterator<Item = Mapping<'a>> {
        let mut reader = Msgpack::new(self.mappings.elements);
        (0..self.mappings.count).map_while(move |_| read_mapping(&mut reader).ok())
    }

    /// Every profile it has absorbed.
    pub fn absorbed(&self) -> impl Iterator<Item = Option<ProfileId>> + 'a {
        let mut reader = Msgpack::new(self.absorbed.elements);
        (0..self.absorbed.count).map(move |_| reader.text().ok().and_then(|text| ProfileId::pack(text.as_bytes())))
    }
}

fn read_mapping<'a>(reader: &mut Msgpack<'a>) -> Result<Mapping<'a>, Odd> {
    if reader.array()? != MAPPING_FIELDS {
        return Err(Odd);
    }
    Ok(Mapping { type_: reader.text()?, value: reader.text()?, mapped_at: reader.int()?, message_id: reader.text()? })
}

/// A profile in the making: a new one, or one or several stored ones, and what is new to them.
pub struct Making<'a> {
    pub id: ProfileId,
    pub collection: Collection,
    pub number: i64,
    pub created: Instant,
    pub merges: u64,
    /// The survivor, then those that it absorbs, in order.
    pub parts: &'a [(ProfileId, Stored<'a>)],
    pub new: &'a [Mapping<'a>],
}

impl Making<'_> {
    /// The profile as the state holds it.
    pub fn encode(&self) -> Vec<u8> {
        let room: usize =
            self.parts.iter().map(|(_, part)| part.mappings.elements.len() + part.absorbed.elements.len()).sum();
        let mut out = Vec::with_capacity(room + 64 + 96 * self.new.len());
        put_msgpack_array(&mut out, FIELDS);
        put_id(&mut out, self.id);
        put_msgpack_text(&mut out, self.collection.name());
        put_msgpack_int(&mut out, self.number);
        put_msgpack_int(&mut out, self.created);
        let held: usize = self.parts.iter().map(|(_, part)| part.mappings.count).sum();
        put_msgpack_array(&mut out, held + self.new.len());
        for (_, part) in self.parts {
            out.extend_from_slice(part.mappings.elements);
        }
        for mapping in self.new {
            put_msgpack_array(&mut out, MAPPING_FIELDS);
            put_msgpack_text(&mut out, mapping.type_);
            put_msgpack_text(&mut out, mapping.value);
            put_msgpack_int(&mut out, mapping.mapped_at);
            put_msgpack_text(&mut out, mapping.message_id);
        }
        put_msgpack_int(&mut out, self.merges as i64);
        let absorbed: usize = self.parts.iter().map(|(_, part)| part.absorbed.count).sum();
        put_msgpack_array(&mut out, absorbed + self.parts.len().saturating_sub(1));
        for (place, (id, part)) in self.parts.iter().enumerate() {
            if place > 0 {
                put_id(&mut out, *id);
            }
            out.extend_from_slice(part.absorbed.elements);
        }
        put_msgpack_array(&mut out, 0);
        out
    }
}

fn put_id(out: &mut Vec<u8>, id: ProfileId) {
    out.push(0xa0 | TEXT_BYTES as u8);
    out.extend_from_slice(&id.text());
}
