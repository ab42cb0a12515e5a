//! What a slice puts out, as bytes: changes for the profile stage, one text a partition, and rows of the ledger.

use std::collections::BTreeMap;

use super::event::{Call, Event};
use super::ids::{Collection, ProfileId};
use super::texts::Texts;
use crate::text::{put_instant, put_json_string, put_number, Instant};

/// Where a record comes from.
#[derive(Clone, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    pub id: String,
}

/// The record in hand: its place in the slice and in its source, and the times that its outputs carry.
#[derive(Clone, Copy)]
pub struct Now<'a> {
    pub record: usize,
    pub topic: &'a Topic,
    pub partition: i64,
    pub offset: i64,
    pub message_id: &'a str,
    /// The event's, clamped.
    pub time: Instant,
    /// Stream time.
    pub now: Instant,
}

/// A decision, as a row of the ledger has it.
#[derive(Default, Clone, Copy)]
pub struct Decision<'a> {
    pub name: &'static str,
    pub profile: Option<(ProfileId, Collection)>,
    pub identifiers: &'a [(&'a str, &'a str)],
    pub absorbed: &'a [ProfileId],
    pub demoted: Option<(&'a str, &'a str)>,
    pub violation: &'static str,
}

/// A row of the ledger that is not handed over yet.
pub struct Row {
    pub partition: u32,
    pub profile: Option<ProfileId>,
    /// Where its text ends; it begins where the one before ends.
    pub end: usize,
    pub record: usize,
    /// Which row of its record it is.
    pub number: usize,
}

/// What is counted, and how often.
pub type Tally = BTreeMap<(&'static str, &'static str, Option<&'static str>), u64>;

#[derive(Default)]
pub struct Output {
    pub changes: Vec<Vec<u8>>,
    /// How many changes there were since the step began; the next one's index.
    pub index: i64,
    pub rows: Vec<Row>,
    pub rows_text: Vec<u8>,
    pub tally: Tally,
    step: i64,
    space: String,
    version: Vec<u8>,
}

/// Of what an event tells a profile: who it is, and what is new to it.
pub struct Telling<'a> {
    pub profile: ProfileId,
    pub collection: Collection,
    pub created: Option<Instant>,
    pub mapped: &'a [(&'a str, &'a str)],
}

impl Output {
    pub fn begin(&mut self, step: i64, version: &str, space: &str, partitions: usize) {
        self.step = step;
        self.space = space.to_owned();
        self.version.clear();
        put_json_string(&mut self.version, version);
        self.changes.resize_with(partitions, Vec::new);
    }

    pub fn partition_of(&self, text: &[u8]) -> u32 {
        crc32fast::hash(text) % self.changes.len().max(1) as u32
    }

    pub fn count(&mut self, what: &'static str, name: &'static str, more: Option<&'static str>) {
        *self.tally.entry((what, name, more)).or_default() += 1;
    }

    /// A row of the ledger, as `stages.identity.Work._decision` writes it.
    pub fn decide(&mut self, decision: Decision<'_>, now: &Now<'_>) {
        self.count("decision", decision.name, Some(decision.violation));
        let out = &mut self.rows_text;
        out.extend_from_slice(b"{\"seq\":\"");
        put_padded(out, self.step, 12);
        out.push(b'-');
        put_padded(out, now.record as i64, 9);
        out.extend_from_slice(b"\",\"decision\":\"");
        out.extend_from_slice(decision.name.as_bytes());
        out.push(b'"');
        if let Some((profile, collection)) = decision.profile {
            out.extend_from_slice(b",\"profile_id\":\"");
            out.extend_from_slice(&profile.text());
            out.extend_from_slice(b"\",\"collection\":\"");
            out.extend_from_slice(collection.name().as_bytes());
            out.push(b'"');
        }
        put_listed(out, b",\"identifiers\":[", decision.identifiers);
        if !decision.absorbed.is_empty() {
            out.extend_from_slice(b",\"absorbed\":[");
            put_ids(out, decision.absorbed);
            out.push(b']');
        }
        put_listed(out, b",\"demoted\":[", decision.demoted.as_slice());
        if !decision.violation.is_empty() {
            out.extend_from_slice(b",\"violation\":\"");
            out.extend_from_slice(decision.violation.as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b",\"message_id\":");
        put_json_string(out, now.message_id);
        out.extend_from_slice(b",\"source\":{\"topic\":");
        put_json_string(out, &now.topic.name);
        out.extend_from_slice(b",\"partition\":");
        put_number(out, now.partition);
        out.extend_from_slice(b",\"offset\":");
        put_number(out, now.offset);
        out.extend_from_slice(b"},\"time\":\"");
        put_instant(out, now.time);
        out.extend_from_slice(b"\",\"now\":\"");
        put_instant(out, now.now);
        out.extend_from_slice(b"\",\"topology_version\":");
        out.extend_from_slice(&self.version);
        out.push(b'}');
        let end = out.len();
        let number = match self.rows.last() {
            Some(last) if last.record == now.record => last.number + 1,
            _ => 0,
        };
        let profile = decision.profile.map(|(profile, _)| profile);
        let partition = match profile {
            Some(profile) => self.partition_of(&profile.text()),
            None => self.partition_of(self.space.as_bytes()),
        };
        self.rows.push(Row { partition, profile, end, record: now.record, number });
    }

    /// Begin a change in its profile's partition.
    fn change(&mut self, kind: &str, profile: ProfileId, now: &Now<'_>) -> &mut Vec<u8> {
        let id = profile.text();
        let partition = self.partition_of(&id) as usize;
        let index = self.index;
        self.index += 1;
        let out = &mut self.changes[partition];
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"change\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"index\":");
        put_number(out, index);
        out.extend_from_slice(b",\"record\":");
        put_number(out, now.record as i64);
        out.extend_from_slice(b",\"now\":");
        put_number(out, now.now);
        out.extend_from_slice(b",\"profile_id\":\"");
        out.extend_from_slice(&id);
        out.push(b'"');
        out
    }

    /// Absorbed profiles hear who they are now, and the survivor whom it takes in.
    pub fn tell_merger(&mut self, survivor: ProfileId, absorbed: &[ProfileId], now: &Now<'_>) {
        let when = |out: &mut Vec<u8>| {
            out.extend_from_slice(b",\"message_id\":");
            put_json_string(out, now.message_id);
            out.extend_from_slice(b",\"time\":");
            put_number(out, now.time);
            out.push(b'}');
        };
        for &gone in absorbed {
            let out = self.change("absorbed", gone, now);
            out.extend_from_slice(b",\"into\":\"");
            out.extend_from_slice(&survivor.text());
            out.push(b'"');
            when(out);
        }
        let out = self.change("absorbs", survivor, now);
        out.extend_from_slice(b",\"absorbed\":[");
        put_ids(out, absorbed);
        out.push(b']');
        when(out);
    }

    /// The event, as `model.change.ProfileEvent` is written; fields in its order, those with default values left out.
    pub fn tell(&mut self, telling: &Telling<'_>, event: &Event, texts: &Texts, now: &Now<'_>) {
        let out = self.change("event", telling.profile, now);
        out.extend_from_slice(b",\"collection\":\"");
        out.extend_from_slice(telling.collection.name().as_bytes());
        out.extend_from_slice(b"\",\"type\":\"");
        out.extend_from_slice(event.call.name().as_bytes());
        out.extend_from_slice(b"\",\"message_id\":");
        put_json_string(out, now.message_id);
        out.extend_from_slice(b",\"time\":");
        put_number(out, now.time);
        let body = event.body.map(|body| texts.get(body));
        // Only the user hears of the context.
        let context =
            event.context.filter(|_| telling.collection == Collection::Users).map(|context| texts.get(context));
        match event.call {
            Call::Identify => {
                put_context(out, context);
                put_traits(out, body);
            }
            // The user hears of the call, the account of its traits.
            Call::Group if telling.collection == Collection::Accounts => put_traits(out, body),
            Call::Group => put_context(out, context),
            Call::Track => {
                out.extend_from_slice(b",\"name\":");
                put_json_string(out, event.name.map_or("", |name| texts.text(name)));
                put_properties(out, body, None);
            }
            Call::Page => {
                out.extend_from_slice(b",\"name\":\"Page Viewed\"");
                put_properties(out, body, event.name.map(|name| ("\"page_name\":", texts.text(name))));
            }
            Call::Screen => {
                out.extend_from_slice(b",\"name\":\"Screen Viewed\"");
                put_properties(out, body, event.name.map(|name| ("\"screen_name\":", texts.text(name))));
            }
        }
        if !matches!(event.call, Call::Identify | Call::Group) {
            put_context(out, context);
        }
        if let Some(created) = telling.created {
            out.extend_from_slice(b",\"created\":");
            put_number(out, created);
        }
        for (place, (type_, value)) in telling.mapped.iter().enumerate() {
            out.extend_from_slice(if place == 0 { b",\"external_ids\":[[" } else { b",[" });
            put_json_string(out, type_);
            out.push(b',');
            put_json_string(out, value);
            out.push(b',');
            put_number(out, now.time);
            out.push(b']');
        }
        if !telling.mapped.is_empty() {
            out.push(b']');
        }
        out.push(b'}');
    }
}

fn put_traits(out: &mut Vec<u8>, body: Option<&[u8]>) {
    if let Some(body) = body {
        out.extend_from_slice(b",\"traits\":");
        out.extend_from_slice(body);
    }
}

fn put_context(out: &mut Vec<u8>, context: Option<&[u8]>) {
    if let Some(context) = context {
        out.extend_from_slice(b",\"context\":");
        out.extend_from_slice(context);
    }
}

/// The properties, to which a page or a screen adds its name.
fn put_properties(out: &mut Vec<u8>, body: Option<&[u8]>, named: Option<(&str, &str)>) {
    if body.is_none() && named.is_none() {
        return;
    }
    out.extend_from_slice(b",\"properties\":");
    let Some((key, name)) = named else {
        out.extend_from_slice(body.unwrap_or_default());
        return;
    };
    match body.and_then(|body| body.strip_suffix(b"}")) {
        Some(body) => {
            out.extend_from_slice(body);
            out.push(b',');
        }
        None => out.push(b'{'),
    }
    out.extend_from_slice(key.as_bytes());
    put_json_string(out, name);
    out.push(b'}');
}

fn put_listed(out: &mut Vec<u8>, head: &[u8], listed: &[(&str, &str)]) {
    for (place, (type_, value)) in listed.iter().enumerate() {
        out.extend_from_slice(if place == 0 { head } else { b"," });
        out.extend_from_slice(b"{\"type\":");
        put_json_string(out, type_);
        out.extend_from_slice(b",\"id\":");
        put_json_string(out, value);
        out.push(b'}');
    }
    if !listed.is_empty() {
        out.push(b']');
    }
}

fn put_ids(out: &mut Vec<u8>, ids: &[ProfileId]) {
    for (place, id) in ids.iter().enumerate() {
        out.extend_from_slice(if place == 0 { b"\"" } else { b",\"" });
        out.extend_from_slice(&id.text());
        out.push(b'"');
    }
}

fn put_padded(out: &mut Vec<u8>, number: i64, digits: usize) {
    let mut text = Vec::with_capacity(20);
    put_number(&mut text, number);
    out.resize(out.len() + digits.saturating_sub(text.len()), b'0');
    out.extend_from_slice(&text);
}
