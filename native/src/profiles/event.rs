//! A message of profile changes, read; as `model.change` says.

use std::ops::Range;

use crate::text::Instant;
use crate::value::{Json, Odd, Value};

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
    pub properties: Value,
    pub context: Value,
    pub traits: Value,
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
    pub raw: Vec<u8>,
    pub step: i64,
    pub previous: i64,
    pub topology_version: Box<str>,
    pub changes: Vec<Change>,
    /// Does it go through all profiles?
    pub sweeps: bool,
}

impl Message {
    /// Read a message; Odd if it is none that the core understands.
    pub fn read(raw: Vec<u8>) -> Result<Message, Odd> {
        let mut json = Json::new(&raw);
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
                        changes.push(change(&mut json, &raw, &mut sweeps)?);
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
            raw,
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
    let end = end_of_object(raw, start)?;
    let text = &raw[start..end];
    *sweeps |= text.starts_with(b"{\"change\":\"topology\"") || text.starts_with(b"{\"change\":\"resync\"");
    json.at = end;
    Ok(Change::Other(start..end))
}

/// Where the object that begins here ends; it was written by an encoder.
fn end_of_object(raw: &[u8], start: usize) -> Result<usize, Odd> {
    let (mut depth, mut in_text, mut at) = (0usize, false, start);
    while let Some(&byte) = raw.get(at) {
        at += 1;
        match byte {
            b'\\' if in_text => at += 1,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => {
                depth = depth.checked_sub(1).ok_or(Odd)?;
                if depth == 0 {
                    return Ok(at);
                }
            }
            _ => {}
        }
    }
    Err(Odd)
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
        properties: Value::Null,
        context: Value::Null,
        traits: Value::Null,
        created: None,
        external_ids: Vec::new(),
    };
    json.expect(b'{')?;
    let mut first = true;
    while let Some(key) = json.plain_key(first)? {
        first = false;
        match key {
            "index" => found.index = json.int()?,
            "record" => found.record = json.int()?,
            "now" => found.now = json.int()?,
            "profile_id" => found.profile_id = json.text()?,
            "collection" => found.is_user = matches!(&*json.text()?, "users"),
            "change" | "type" => drop(json.text()?),
            "message_id" => found.message_id = json.text()?,
            "time" => found.time = json.int()?,
            "name" => found.name = Some(json.text()?),
            "properties" => found.properties = json.value()?,
            "context" => found.context = json.value()?,
            "traits" => found.traits = json.value()?,
            "created" => found.created = Some(json.int()?),
            "external_ids" => found.external_ids = external_ids(json)?,
            _ => return Err(Odd),
        }
    }
    for value in [&found.properties, &found.context, &found.traits] {
        if !matches!(value, Value::Null | Value::Object(_)) {
            return Err(Odd);
        }
    }
    Ok(found)
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
