//! The fields of one event as they stand on the wire, with the ids in them. As `intake.checks`, for what is recognised.

use super::instants::{parse_instant, ORIGINAL, RECEIVED, SENT, TIMESTAMP};
use super::rules::{Key, Rules, TypeNumber};
use super::texts::{Meant, Span};
use super::wire::{unescape, Object, Piece, Quoted, Reader};
use crate::text::{put_json_string, Instant};
use crate::value::Json;

/// Bytes, where intake counts characters: what is longer is left to it.
const ID_BYTES_MAX: usize = 500;

/// Where ids stand, in the order of extraction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    AnonymousId,
    UserId,
    Properties,
    Traits,
    ContextTraits,
    Device,
    GroupId,
}

#[derive(Default)]
pub struct Wire {
    pub seen: u32,
    pub call: Option<Quoted>,
    pub message_id: Option<Span>,
    pub event: Option<Span>,
    pub name: Option<Span>,
    pub times: [Option<Instant>; 4],
    pub properties: Option<Object>,
    pub traits: Option<Object>,
    pub context_traits: Option<Object>,
    /// By their place in `Rules::told_context`; an empty one is one that does not stand there.
    pub told_context: Vec<Object>,
    pub traits_stand: bool,
    pub names_itself: bool,
}

/// Of the record that is read: where its text begins, and where meanings of escaped texts go.
pub struct Within<'b> {
    pub base: usize,
    pub meant: &'b mut Meant,
    pub found: &'b mut Vec<(Place, TypeNumber, Span)>,
    pub rules: &'b Rules,
}

impl Within<'_> {
    fn span(&self, piece: Piece) -> Span {
        Span::of_record(self.base, piece)
    }

    fn meaning(&mut self, reader: &Reader<'_>, quoted: Quoted) -> Span {
        if !quoted.escaped {
            return self.span(quoted.piece);
        }
        let start = self.meant.0.len();
        unescape(&reader.raw[quoted.piece.start..quoted.piece.end], &mut self.meant.0);
        self.meant.since(start)
    }

    /// An object as the encoder writes it.
    pub fn told(&mut self, reader: &Reader<'_>, object: Object) -> Option<Span> {
        if object.canonical {
            return Some(self.span(object.piece));
        }
        let value = Json::new(&reader.raw[object.piece.start..object.piece.end]).value().ok()?;
        let start = self.meant.0.len();
        value.put_json(&mut self.meant.0);
        Some(self.meant.since(start))
    }

    /// A text, or null for none.
    fn text(&mut self, reader: &mut Reader<'_>) -> Option<Option<Span>> {
        match reader.peek()? {
            b'"' => {
                let quoted = reader.string()?;
                let span = self.meaning(reader, quoted);
                Some((span.size() > 0).then_some(span))
            }
            b'n' => reader.value(1).map(|()| None),
            _ => None,
        }
    }

    /// An id: a text or a whole number; null and the empty text are none.
    fn id(&mut self, reader: &mut Reader<'_>) -> Option<Option<Span>> {
        let found = match reader.peek()? {
            b'-' | b'0'..=b'9' => {
                let start = reader.at;
                reader.value(1)?;
                let number = &reader.raw[start..reader.at];
                if number.contains(&b'.') || number.starts_with(b"-0") {
                    return None;
                }
                Some(self.span(Piece { start, end: reader.at }))
            }
            _ => self.text(reader)?,
        };
        match found {
            Some(span) if span.size() > ID_BYTES_MAX => None,
            found => Some(found),
        }
    }

    fn found(&mut self, place: Place, type_: Option<TypeNumber>, value: Option<Span>) {
        if let (Some(type_), Some(value)) = (type_, value) {
            self.found.push((place, type_, value));
        }
    }

    /// An object of properties or traits, and the ids under these keys.
    fn keyed(&mut self, reader: &mut Reader<'_>, place: Place, keys: &[Key], wire: &mut Wire) -> Option<Object> {
        let mut doubled = false;
        let mut seen = 0_u64;
        let object = reader.object(if place == Place::ContextTraits { 2 } else { 1 }, |reader, name| {
            if place == Place::Properties && (name == b"page_name" || name == b"screen_name") {
                wire.names_itself = true;
            }
            let mut read = None;
            for (number, key) in keys.iter().enumerate() {
                if *key.name != *name {
                    continue;
                }
                doubled |= seen >> (number & 63) & 1 == 1;
                seen |= 1 << (number & 63);
                let value = match read {
                    Some(value) => value,
                    None => *read.insert(self.id(reader)?),
                };
                self.found(place, key.type_, value);
            }
            Some(read.is_some())
        })?;
        (!doubled || keys.len() > 63).then_some(object)
    }

    fn context(&mut self, reader: &mut Reader<'_>, wire: &mut Wire) -> Option<()> {
        let rules = self.rules;
        let absent = Object { piece: Piece { start: 0, end: 0 }, keys: 0, canonical: true };
        wire.told_context.resize(rules.told_context.len(), absent);
        let mut first = true;
        let mut seen = 0_u32;
        reader.at += 1;
        while let Some(key) = reader.key(std::mem::take(&mut first))? {
            let start = reader.at;
            let outside = std::mem::replace(&mut reader.canonical, true);
            let name = &reader.raw[key.start..key.end];
            let bit = self.context_part(reader, name, seen, wire)?;
            seen |= bit;
            let told = Object { piece: Piece { start, end: reader.at }, keys: 1, canonical: reader.canonical };
            reader.canonical &= outside;
            if let Some(place) = rules.told_context.iter().position(|told| told.as_bytes() == name) {
                // Of two values of a key the last one counts.
                if wire.told_context[place].keys > 0 {
                    return None;
                }
                wire.told_context[place] = told;
            }
        }
        Some(())
    }

    /// One part of the context, whose bit is returned where ids are looked for in it.
    fn context_part(&mut self, reader: &mut Reader<'_>, name: &[u8], seen: u32, wire: &mut Wire) -> Option<u32> {
        let next = reader.peek()?;
        let bit = match name {
            b"traits" => 1,
            b"device" => 2,
            b"integrations" => 4,
            b"groupId" => 8,
            b"Braze" | b"externalIds" if next != b'n' => return None,
            _ => 0,
        };
        if seen & bit != 0 {
            return None;
        }
        match (bit, next) {
            (1, b'{') => {
                let object = self.keyed(reader, Place::ContextTraits, &self.rules.context_keys, wire)?;
                wire.context_traits = Some(object);
            }
            (2, b'{') => self.device(reader)?,
            (4, b'{') => without(reader, &[b"Google Analytics", b"Braze"])?,
            (8, b'"' | b'-' | b'0'..=b'9') => {
                self.id(reader)??;
            }
            (0, _) | (_, b'n') => reader.value(2)?,
            _ => return None,
        }
        Some(bit)
    }

    /// What is told of the context, as the encoder writes it.
    pub fn told_context(&mut self, reader: &Reader<'_>, parts: &[Object]) -> Option<Option<Span>> {
        let start = self.meant.0.len();
        for (key, part) in self.rules.told_context.iter().zip(parts).filter(|(_, part)| part.keys > 0) {
            self.meant.0.push(if self.meant.0.len() == start { b'{' } else { b',' });
            put_json_string(&mut self.meant.0, key);
            self.meant.0.push(b':');
            let raw = &reader.raw[part.piece.start..part.piece.end];
            if part.canonical {
                self.meant.0.extend_from_slice(raw);
            } else {
                Json::new(raw).value().ok()?.put_json(&mut self.meant.0);
            }
        }
        if self.meant.0.len() == start {
            return Some(None);
        }
        self.meant.0.push(b'}');
        Some(Some(self.meant.since(start)))
    }

    /// The ids of a phone, as `identity.extract` takes them.
    fn device(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let mut first = true;
        let mut seen = 0_u32;
        let (mut system, mut ids) = (None, [None; 3]);
        let mut tracking = None;
        reader.at += 1;
        while let Some(key) = reader.key(std::mem::take(&mut first))? {
            let next = reader.peek()?;
            let bit = match &reader.raw[key.start..key.end] {
                b"type" => 1,
                b"id" => 2,
                b"token" => 4,
                b"advertisingId" => 8,
                b"adTrackingEnabled" => 16,
                _ => 0,
            };
            if seen & bit != 0 {
                return None;
            }
            seen |= bit;
            match bit {
                1 if next == b'"' => {
                    let quoted = reader.string()?;
                    if quoted.escaped {
                        return None;
                    }
                    system = match &reader.raw[quoted.piece.start..quoted.piece.end] {
                        b"android" => Some(0),
                        b"ios" => Some(1),
                        _ => None,
                    };
                }
                2 => ids[0] = self.id(reader)?,
                4 => ids[1] = self.id(reader)?,
                8 => ids[2] = self.id(reader)?,
                _ => {
                    if bit == 16 {
                        tracking = Some(next);
                    }
                    reader.value(3)?;
                }
            }
        }
        let Some(system) = system else { return Some(()) };
        // Android needs consent to be given; for iOS it must not be refused.
        if !(tracking == Some(b't') || (system == 1 && tracking != Some(b'f'))) {
            ids[2] = None;
        }
        for (type_, id) in self.rules.device[system].into_iter().zip(ids) {
            self.found(Place::Device, type_, id);
        }
        Some(())
    }

    fn instant(&mut self, reader: &mut Reader<'_>) -> Option<Option<Instant>> {
        if reader.peek()? == b'n' {
            return reader.value(1).map(|()| None);
        }
        if reader.peek()? != b'"' {
            return None;
        }
        let quoted = reader.string()?;
        parse_instant(&reader.raw[quoted.piece.start..quoted.piece.end]).map(Some)
    }

    pub fn event(&mut self, reader: &mut Reader<'_>, wire: &mut Wire) -> Option<()> {
        let rules = self.rules;
        reader.space();
        if reader.peek()? != b'{' {
            return None;
        }
        reader.at += 1;
        let mut first = true;
        while let Some(key) = reader.key(std::mem::take(&mut first))? {
            let name = &reader.raw[key.start..key.end];
            let bit = field_bit(name);
            // Of two values of a key the last one counts.
            if wire.seen & bit != 0 {
                return None;
            }
            wire.seen |= bit;
            let null = reader.peek()? == b'n';
            match name {
                b"type" if !null => {
                    wire.call = Some(reader.peek().filter(|&byte| byte == b'"').and_then(|_| reader.string())?)
                }
                b"messageId" => wire.message_id = self.text(reader)?,
                b"event" => wire.event = self.text(reader)?,
                b"name" if reader.peek()? == b'"' => wire.name = self.text(reader)?,
                b"userId" => {
                    let value = self.id(reader)?;
                    self.found(Place::UserId, rules.user_id, value);
                }
                b"anonymousId" => {
                    let value = self.id(reader)?;
                    self.found(Place::AnonymousId, rules.anonymous_id, value);
                }
                b"groupId" => {
                    let value = self.id(reader)?;
                    self.found(Place::GroupId, rules.group_id, value);
                    wire.seen |= u32::from(value.is_some()) << 31;
                }
                b"previousId" => {
                    self.id(reader)?;
                }
                b"timestamp" => wire.times[TIMESTAMP] = self.instant(reader)?,
                b"originalTimestamp" => wire.times[ORIGINAL] = self.instant(reader)?,
                b"sentAt" => wire.times[SENT] = self.instant(reader)?,
                b"receivedAt" => wire.times[RECEIVED] = self.instant(reader)?,
                b"properties" | b"traits" | b"context" | b"integrations" if !null => {
                    if reader.peek()? != b'{' {
                        return None;
                    }
                    match name {
                        b"properties" => {
                            let object = self.keyed(reader, Place::Properties, &rules.property_keys, wire)?;
                            wire.properties = Some(object);
                        }
                        b"traits" => {
                            wire.traits_stand = true;
                            wire.traits = Some(self.keyed(reader, Place::Traits, &rules.trait_keys, wire)?);
                        }
                        b"context" => self.context(reader, wire)?,
                        _ => without(reader, &[b"Personas"])?,
                    }
                }
                _ => reader.value(1)?,
            }
        }
        reader.space();
        (reader.at == reader.raw.len()).then_some(())
    }
}

fn field_bit(name: &[u8]) -> u32 {
    let place = match name {
        b"type" => 0,
        b"event" => 1,
        b"messageId" => 2,
        b"anonymousId" => 3,
        b"userId" => 4,
        b"timestamp" => 5,
        b"originalTimestamp" => 6,
        b"sentAt" => 7,
        b"receivedAt" => 8,
        b"name" => 9,
        b"properties" => 10,
        b"context" => 11,
        b"traits" => 12,
        b"integrations" => 13,
        b"groupId" => 14,
        b"previousId" => 15,
        _ => return 0,
    };
    1 << place
}

/// Pass over an object that must have none of these keys.
fn without(reader: &mut Reader<'_>, odd: &[&[u8]]) -> Option<()> {
    let mut first = true;
    reader.at += 1;
    while let Some(key) = reader.key(std::mem::take(&mut first))? {
        if odd.contains(&&reader.raw[key.start..key.end]) {
            return None;
        }
        reader.value(3)?;
    }
    Some(())
}
