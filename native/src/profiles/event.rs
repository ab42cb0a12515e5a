//! A message of profile changes, read; as `model.change` says.

use std::ops::{Deref, Range};

use crate::text::Instant;
use crate::value::{put_msgpack_array, put_msgpack_int, put_msgpack_text, Json, Odd, Value};

/// Type and value of an external id that has become the profile's, and since when.
pub type NewId = (Box<str>, Box<str>, Instant);

/// An event of a profile.
#[derive(Debug)]
pub struct Event {
    pub index: i64,
    pub record: i64,
    pub now: Instant,
    pub profile_id: Box<str>,
    pub is_user: bool,
    pub message_id: Box<str>,
    pub time: Instant,
    pub name: Option<Box<str>>,
    /// Where they stand in the message; empty: there are none.
    pub properties: Range<usize>,
    pub context: Range<usize>,
    pub traits: Range<usize>,
    pub created: Option<Instant>,
    pub external_ids: Vec<NewId>,
}

/// One change of a message.
pub enum Change {
    Event(Box<Event>, Range<usize>),
    /// What the rooms do: where it stands in the message.
    Other(Range<usize>),
}

/// A message, with what its changes have in common.
pub struct Message {
    pub step: i64,
    pub previous: i64,
    pub topology_version: Box<str>,
    pub changes: Vec<Change>,
    /// Does it go through all profiles?
    pub sweeps: bool,
}

impl Message {
    /// Read a message; Odd if it is none that the core understands.
    pub fn read(raw: &[u8]) -> Result<Message, Odd> {
        let mut json = Json::new(raw);
        let (mut step, mut previous, mut version, mut changes, mut sweeps) = (None, None, None, Vec::new(), false);
        json.expect(b'{')?;
        let mut first = true;
        while let Some(key) = json.plain_key(first)? {
            first = false;
            match key {
                "step" => step = Some(json.int()?),
                "previous" => previous = Some(json.int()?),
                "topology_version" => version = Some(json.text()?),
                "changes" => {
                    json.expect(b'[')?;
                    while json.another(b']', changes.is_empty())? {
                        changes.push(change(&mut json, raw, &mut sweeps)?);
                    }
                }
                _ => return Err(Odd),
            }
        }
        Ok(Message {
            step: step.ok_or(Odd)?,
            previous: previous.ok_or(Odd)?,
            topology_version: version.ok_or(Odd)?,
            changes,
            sweeps,
        })
    }
}

fn change(json: &mut Json<'_>, raw: &[u8], sweeps: &mut bool) -> Result<Change, Odd> {
    json.peek()?;
    let start = json.at;
    if raw[start..].starts_with(b"{\"change\":\"event\"") {
        if let Ok(event) = event(json) {
            return Ok(Change::Event(Box::new(event), start..json.at));
        }
    }
    json.at = start;
    let span = json.skip()?;
    let text = &raw[span.clone()];
    *sweeps |= text.starts_with(b"{\"change\":\"topology\"") || text.starts_with(b"{\"change\":\"resync\"");
    Ok(Change::Other(span))
}

fn event(json: &mut Json<'_>) -> Result<Event, Odd> {
    let mut found = Event {
        index: 0,
        record: 0,
        now: 0,
        profile_id: "".into(),
        is_user: true,
        message_id: "".into(),
        time: 0,
        name: None,
        properties: 0..0,
        context: 0..0,
        traits: 0..0,
        created: None,
        external_ids: Vec::new(),
    };
    json.expect(b'{')?;
    let mut first = true;
    // The encoder's own order: what all events begin with.
    if json.literal(b"\"change\":\"event\",\"index\":") {
        first = false;
        found.index = json.int()?;
        if json.literal(b",\"record\":") {
            found.record = json.int()?;
        }
        if json.literal(b",\"now\":") {
            found.now = json.int()?;
        }
        if json.literal(b",\"profile_id\":") {
            found.profile_id = json.text()?;
        }
        json.literal(b",\"collection\":\"users\"");
    }
    while let Some(key) = json.plain_key(first)? {
        first = false;
        match key {
            "index" => found.index = json.int()?,
            "record" => found.record = json.int()?,
            "now" => found.now = json.int()?,
            "profile_id" => found.profile_id = json.text()?,
            "collection" => found.is_user = matches!(&*json.text()?, "users"),
            "change" | "type" => {
                json.skip()?;
            }
            "message_id" => found.message_id = json.text()?,
            "time" => found.time = json.int()?,
            "name" => found.name = Some(json.text()?),
            "properties" => found.properties = object(json)?,
            "context" => found.context = object(json)?,
            "traits" => found.traits = object(json)?,
            "created" => found.created = Some(json.int()?),
            "external_ids" => found.external_ids = external_ids(json)?,
            _ => return Err(Odd),
        }
    }
    Ok(found)
}

/// Where an object stands; null is none.
fn object(json: &mut Json<'_>) -> Result<Range<usize>, Odd> {
    match json.peek()? {
        b'{' => json.skip(),
        b'n' => json.skip().map(|_| 0..0),
        _ => Err(Odd),
    }
}

/// An event with its objects read: the properties and the context only where something is to be folded.
pub struct Opened<'a> {
    pub event: &'a Event,
    pub properties: Value,
    pub context: Value,
    pub traits: Value,
    /// Its entry in the profile's history.
    pub entry: Vec<u8>,
}

impl Deref for Opened<'_> {
    type Target = Event;

    fn deref(&self) -> &Event {
        self.event
    }
}

impl<'a> Opened<'a> {
    /// Odd where a value is none that the core takes. `is_folded`: does anything count events of this name?
    pub fn read(event: &'a Event, raw: &[u8], is_folded: bool, is_kept: bool) -> Result<Opened<'a>, Odd> {
        let read = |span: &Range<usize>| {
            if span.is_empty() {
                Ok(Value::Null)
            } else {
                Json::new(&raw[span.clone()]).value()
            }
        };
        let traits = read(&event.traits)?;
        let (mut properties, mut context) = (Value::Null, Value::Null);
        if is_folded {
            (properties, context) = (read(&event.properties)?, read(&event.context)?);
        }
        let mut entry = Vec::with_capacity(64 + event.properties.len() + event.context.len());
        match &event.name {
            Some(name) if event.is_user && is_kept => {
                put_msgpack_array(&mut entry, 6);
                put_msgpack_text(&mut entry, &event.message_id);
                put_msgpack_int(&mut entry, event.now);
                put_msgpack_int(&mut entry, event.time);
                put_msgpack_text(&mut entry, name);
                for (span, value) in [(&event.properties, &properties), (&event.context, &context)] {
                    if is_folded || span.is_empty() {
                        value.put_msgpack(&mut entry);
                    } else {
                        Json::new(&raw[span.clone()]).transcode(&mut entry)?;
                    }
                }
            }
            _ => {
                put_msgpack_array(&mut entry, 1);
                put_msgpack_text(&mut entry, &event.message_id);
            }
        }
        Ok(Opened { event, properties, context, traits, entry })
    }
}

fn external_ids(json: &mut Json<'_>) -> Result<Vec<NewId>, Odd> {
    let mut found = Vec::new();
    json.expect(b'[')?;
    while json.another(b']', found.is_empty())? {
        json.expect(b'[')?;
        let type_ = json.text()?;
        json.expect(b',')?;
        let id = json.text()?;
        json.expect(b',')?;
        found.push((type_, id, json.int()?));
        json.expect(b']')?;
    }
    Ok(found)
}
