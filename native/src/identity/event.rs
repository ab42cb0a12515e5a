//! Records as events: what of a record resolution and the profile stage need. As `intake.decode` and `identity.extract`,
//! for records of which every part is recognised.

use std::ops::Range;

use super::fields::{Place, Wire, Within};
use super::ids::{owner_key, Collection, Print, Prints};
use super::instants::time_of;
use super::rules::{Rules, TypeNumber, Verdict};
use super::texts::{Span, Texts};
use super::wire::Reader;
use crate::text::Instant;

pub const RECORD_BYTES_MAX: usize = 32 * 1024;
/// Bytes, where intake counts characters: what is longer is left to it.
const MESSAGE_ID_BYTES_MAX: usize = 100;
/// Fewer than are used at all, so that no bound of extraction is met here.
const IDS_MAX: usize = 60;

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
    /// What is told of the context; None for nothing.
    pub context: Option<Span>,
    /// Among all ids of the slice; blocked ones are among them.
    pub users: Range<usize>,
    pub accounts: Range<usize>,
}

/// Reads the records of a slice.
pub struct Decoder<'a> {
    pub rules: &'a Rules,
    pub prints: &'a Prints,
    pub texts: &'a mut Texts,
    pub ids: &'a mut Vec<FoundId>,
    found: Vec<(Place, TypeNumber, Span)>,
    key: Vec<u8>,
}

impl<'a> Decoder<'a> {
    pub fn new(rules: &'a Rules, prints: &'a Prints, texts: &'a mut Texts, ids: &'a mut Vec<FoundId>) -> Self {
        Decoder { rules, prints, texts, ids, found: Vec::new(), key: Vec::new() }
    }

    /// The event in a record; None: it is left to the walk in Python.
    pub fn decode(&mut self, record: Span, timestamp: Instant) -> Option<Event> {
        self.found.clear();
        let (raw, base, meant) = self.texts.open(record)?;
        if raw.len() > RECORD_BYTES_MAX {
            return None;
        }
        std::str::from_utf8(raw).ok()?;
        let mut reader = Reader::new(raw);
        let mut wire = Wire::default();
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
        let message_id = wire.message_id.filter(|id| id.size() <= MESSAGE_ID_BYTES_MAX)?;
        let body = match body {
            Some(object) if object.keys > 0 => Some(within.told(&reader, object)?),
            _ => None,
        };
        let context = within.told_context(&reader, &wire.told_context)?;
        let time = time_of(&wire.times, timestamp)?;
        let body_place = match call {
            Call::Identify => Place::Traits,
            Call::Group => Place::GroupId,
            _ => Place::Properties,
        };
        let places = [Place::AnonymousId, Place::UserId, body_place, Place::ContextTraits, Place::Device];
        let users = self.collect(
            Collection::Users,
            if call == Call::Group { &places[..2] } else { &places[..3] },
            &places[3..],
        )?;
        let accounts =
            self.collect(Collection::Accounts, if call == Call::Group { &[Place::GroupId] } else { &[] }, &[])?;
        Some(Event { call, time, message_id, name, body, context, users, accounts })
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
