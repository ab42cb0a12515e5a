//! Records as events: what of a record resolution and the profile stage need. As `intake.decode` and `identity.extract`,
//! for records of which every part is recognised.

use std::ops::Range;

use super::ids::{owner_key, Collection, Print, Prints};
use super::instants::{parse_instant, INSTANT_MAX};
use super::rules::{Key, Rules, TypeNumber, Verdict};
use super::wire::{unescape, Object, Piece, Quoted, Reader};
use crate::text::Instant;
use crate::value::Json;

pub const RECORD_BYTES_MAX: usize = 32 * 1024;
/// Bytes, where intake counts characters: what is longer is left to it.
const ID_BYTES_MAX: usize = 500;
const MESSAGE_ID_BYTES_MAX: usize = 100;
/// Fewer than are used at all, so that no bound of extraction is met here.
const IDS_MAX: usize = 60;

/// A piece of text of a slice: of its records, or of what their escapes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

const MEANT: u32 = 1 << 31;

/// The bytes of a slice's records, one after the other, and beside them the escaped texts as what they mean.
#[derive(Default)]
pub struct Texts {
    raw: Vec<u8>,
    meant: Vec<u8>,
}

impl Texts {
    pub fn clear(&mut self) {
        self.raw.clear();
        self.meant.clear();
    }

    /// Add a record. None when a slice is larger than its places can be told.
    pub fn add(&mut self, record: &[u8]) -> Option<Span> {
        let start = self.raw.len();
        let end = start + record.len();
        if end >= MEANT as usize {
            return None;
        }
        self.raw.extend_from_slice(record);
        Some(Span { start: start as u32, end: end as u32 })
    }

    #[inline]
    pub fn get(&self, span: Span) -> &[u8] {
        if span.start & MEANT == 0 {
            &self.raw[span.start as usize..span.end as usize]
        } else {
            &self.meant[(span.start ^ MEANT) as usize..(span.end ^ MEANT) as usize]
        }
    }

    /// The same as text: every record was found to be UTF-8 before anything else.
    #[inline]
    pub fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.get(span)).unwrap_or_default()
    }
}

/// The calls that are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    Identify,
    Track,
    Page,
    Screen,
    Group,
}

impl Call {
    pub const ALL: [Call; 5] = [Call::Identify, Call::Track, Call::Page, Call::Screen, Call::Group];

    pub fn name(self) -> &'static str {
        match self {
            Call::Identify => "identify",
            Call::Track => "track",
            Call::Page => "page",
            Call::Screen => "screen",
            Call::Group => "group",
        }
    }
}

/// An external id of an event.
#[derive(Clone, Copy)]
pub struct FoundId {
    pub type_: TypeNumber,
    pub value: Span,
    pub print: Print,
    pub verdict: Verdict,
}

/// A record that is taken, if its ids allow it.
pub struct Event {
    pub call: Call,
    /// By the skew formula, not yet clamped.
    pub time: Instant,
    pub message_id: Span,
    /// The event's name, or that of a page or screen.
    pub name: Option<Span>,
    /// Properties or traits, as the encoder writes them; None for none.
    pub body: Option<Span>,
    /// Among all ids of the slice; blocked ones are among them.
    pub users: Range<usize>,
    pub accounts: Range<usize>,
}

/// Where ids stand, in the order of extraction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    AnonymousId,
    UserId,
    Properties,
    Traits,
    ContextTraits,
    Device,
    GroupId,
}

#[derive(Default)]
struct Wire {
    seen: u32,
    call: Option<Quoted>,
    message_id: Option<Span>,
    event: Option<Span>,
    name: Option<Span>,
    times: [Option<Instant>; 4],
    properties: Option<Object>,
    traits: Option<Object>,
    context_traits: Option<Object>,
    traits_stand: bool,
    names_itself: bool,
}

const TIMESTAMP: usize = 0;
const ORIGINAL: usize = 1;
const SENT: usize = 2;
const RECEIVED: usize = 3;

/// Reads the records of a slice.
pub struct Decoder<'a> {
    pub rules: &'a Rules,
    pub prints: &'a Prints,
    pub texts: &'a mut Texts,
    pub ids: &'a mut Vec<FoundId>,
    found: Vec<(Place, TypeNumber, Span)>,
    key: Vec<u8>,
}

/// Of the record that is read: where its text begins, and where meanings of escaped texts go.
struct Within<'b> {
    base: usize,
    meant: &'b mut Vec<u8>,
    found: &'b mut Vec<(Place, TypeNumber, Span)>,
    rules: &'b Rules,
}

impl Within<'_> {
    fn span(&self, piece: Piece) -> Span {
        Span { start: (self.base + piece.start) as u32, end: (self.base + piece.end) as u32 }
    }

    fn meaning(&mut self, reader: &Reader<'_>, quoted: Quoted) -> Span {
        if !quoted.escaped {
            return self.span(quoted.piece);
        }
        let start = self.meant.len();
        unescape(&reader.raw[quoted.piece.start..quoted.piece.end], self.meant);
        Span { start: start as u32 | MEANT, end: self.meant.len() as u32 | MEANT }
    }

    /// An object as the encoder writes it.
    fn told(&mut self, reader: &Reader<'_>, object: Object) -> Option<Span> {
        if object.canonical {
            return Some(self.span(object.piece));
        }
        let value = Json::new(&reader.raw[object.piece.start..object.piece.end]).value().ok()?;
        let start = self.meant.len();
        value.put_json(self.meant);
        Some(Span { start: start as u32 | MEANT, end: self.meant.len() as u32 | MEANT })
    }

    /// A text, or null for none.
    fn text(&mut self, reader: &mut Reader<'_>) -> Option<Option<Span>> {
        match reader.peek()? {
            b'"' => {
                let quoted = reader.string()?;
                let span = self.meaning(reader, quoted);
                Some((span.start != span.end).then_some(span))
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
            Some(span) if (span.end - span.start) as usize > ID_BYTES_MAX => None,
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
        let mut first = true;
        let mut seen = 0_u32;
        reader.at += 1;
        while let Some(key) = reader.key(std::mem::take(&mut first))? {
            let null = reader.peek()? == b'n';
            let bit = match &reader.raw[key.start..key.end] {
                b"traits" => 1,
                b"device" => 2,
                b"integrations" => 4,
                b"groupId" => 8,
                b"Braze" | b"externalIds" if !null => return None,
                _ => 0,
            };
            if seen & bit != 0 {
                return None;
            }
            seen |= bit;
            match (bit, reader.peek()?) {
                (1, b'{') => {
                    let object = self.keyed(reader, Place::ContextTraits, &rules.context_keys, wire)?;
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
        }
        Some(())
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

    fn event(&mut self, reader: &mut Reader<'_>, wire: &mut Wire) -> Option<()> {
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
                b"type" if !null => wire.call = Some(reader.peek().filter(|&byte| byte == b'"').and_then(|_| reader.string())?),
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

/// Event time by the skew formula, as `intake.checks.time_of`.
fn time_of(times: &[Option<Instant>; 4], timestamp: Instant) -> Option<Instant> {
    let received = times[RECEIVED].unwrap_or(timestamp.clamp(0, INSTANT_MAX));
    let time = match times[SENT] {
        None => times[TIMESTAMP].or(times[ORIGINAL]).unwrap_or(received),
        Some(sent) => match times[ORIGINAL].or(times[TIMESTAMP]) {
            None => received,
            Some(made) => received - (sent - made),
        },
    };
    (0..=INSTANT_MAX).contains(&time).then_some(time)
}

impl<'a> Decoder<'a> {
    pub fn new(rules: &'a Rules, prints: &'a Prints, texts: &'a mut Texts, ids: &'a mut Vec<FoundId>) -> Self {
        Decoder { rules, prints, texts, ids, found: Vec::new(), key: Vec::new() }
    }

    /// The event in a record; None: it is left to the walk in Python.
    pub fn decode(&mut self, record: Span, timestamp: Instant) -> Option<Event> {
        self.found.clear();
        let Texts { raw, meant } = &mut *self.texts;
        let raw = &raw[record.start as usize..record.end as usize];
        if raw.len() > RECORD_BYTES_MAX || meant.len() + RECORD_BYTES_MAX >= MEANT as usize {
            return None;
        }
        std::str::from_utf8(raw).ok()?;
        let mut reader = Reader::new(raw);
        let mut wire = Wire::default();
        let base = record.start as usize;
        let mut within = Within { base, meant, found: &mut self.found, rules: self.rules };
        within.event(&mut reader, &mut wire)?;
        let call = wire.call.filter(|call| !call.escaped)?.piece;
        let call = *Call::ALL.iter().find(|known| known.name().as_bytes() == &raw[call.start..call.end])?;
        let (name, body) = match call {
            Call::Track => (Some(wire.event?), wire.properties),
            Call::Page | Call::Screen => {
                // A name that stands among the properties is replaced, and one that is an id matches.
                if wire.name.is_some() && (wire.names_itself || self.rules.name_is_id) {
                    return None;
                }
                (wire.name, wire.properties)
            }
            Call::Identify => {
                let from_context = !wire.traits_stand && wire.context_traits.is_some_and(|traits| traits.keys > 0);
                (None, if from_context { wire.context_traits } else { wire.traits })
            }
            Call::Group => {
                if wire.seen >> 31 == 0 {
                    return None;
                }
                (None, wire.traits)
            }
        };
        let message_id = wire.message_id.filter(|id| (id.end - id.start) as usize <= MESSAGE_ID_BYTES_MAX)?;
        let body = match body {
            Some(object) if object.keys > 0 => Some(within.told(&reader, object)?),
            _ => None,
        };
        let time = time_of(&wire.times, timestamp)?;
        let body_place = match call {
            Call::Identify => Place::Traits,
            Call::Group => Place::GroupId,
            _ => Place::Properties,
        };
        let places = [Place::AnonymousId, Place::UserId, body_place, Place::ContextTraits, Place::Device];
        let users = self.collect(Collection::Users, if call == Call::Group { &places[..2] } else { &places[..3] }, &places[3..])?;
        let accounts = self.collect(Collection::Accounts, if call == Call::Group { &[Place::GroupId] } else { &[] }, &[])?;
        Some(Event { call, time, message_id, name, body, users, accounts })
    }

    /// The ids of these places, each once; those of one place in the order of their type and value.
    fn collect(&mut self, collection: Collection, places: &[Place], more: &[Place]) -> Option<Range<usize>> {
        let first = self.ids.len();
        for place in places.iter().chain(more) {
            let mut here: Vec<(TypeNumber, Span)> = Vec::new();
            here.extend(self.found.iter().filter(|(at, ..)| at == place).map(|&(_, type_, value)| (type_, value)));
            if here.len() > 1 {
                let texts = &*self.texts;
                here.sort_by_key(|&(type_, value)| (self.rules.name(type_), texts.get(value)));
            }
            for (type_, value) in here {
                let text = self.texts.get(value);
                let known = self.ids[first..].iter().any(|id| id.type_ == type_ && self.texts.get(id.value) == text);
                if known {
                    continue;
                }
                owner_key(collection, self.rules.name(type_).as_bytes(), text, &mut self.key);
                let verdict = self.rules.verdict(type_, self.texts.text(value));
                self.ids.push(FoundId { type_, value, print: self.prints.of(&self.key), verdict });
            }
        }
        (self.ids.len() - first <= IDS_MAX).then_some(first..self.ids.len())
    }
}
