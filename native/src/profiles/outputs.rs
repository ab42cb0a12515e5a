//! What is told: rows of the change topics and messages to destinations, as bytes (`stages.rows`, `destinations.shape`).

use std::cell::OnceCell;
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::plan::{Connection, Route};
use super::profile::{Combination, KnownId, Profile};
use crate::text::{put_instant, put_json_string, put_padded, Derive, Instant};
use crate::value::Value;

/// To which topic a record goes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    TraitChanges,
    AudienceChanges,
    Destination(Arc<str>),
}

/// What is counted.
#[derive(PartialEq, Eq, Hash)]
pub enum Counted {
    CustomTrait,
    ComputedTrait,
    Audience { key: Arc<str>, entered: bool, by_time: bool },
    Destination(Arc<str>),
    Due,
    Limit(Box<str>),
}

pub type Tally = FxHashMap<Counted, u64>;

/// Why something is told.
pub struct Cause {
    pub by_time: bool,
    pub time: Instant,
    now: Instant,
    pub message_id: Box<str>,
    step: i64,
    record: i64,
    when: OnceCell<Vec<u8>>,
}

impl Cause {
    /// `step`, `record`: place in the identity log. An empty message id: a due time.
    pub fn new(by_time: bool, time: Instant, now: Instant, message_id: &str, step: i64, record: i64) -> Cause {
        Cause { by_time, time, now, message_id: message_id.into(), step, record, when: OnceCell::new() }
    }

    /// `"time":…,"now":…,"message_id":…,"seq":…`, as every row says it; most events have no row.
    fn when(&self) -> &[u8] {
        self.when.get_or_init(|| {
            let mut when = Vec::with_capacity(160);
            when.extend_from_slice(b"\"time\":\"");
            put_instant(&mut when, self.time);
            when.extend_from_slice(b"\",\"now\":\"");
            put_instant(&mut when, self.now);
            when.extend_from_slice(b"\",\"message_id\":");
            if self.message_id.is_empty() {
                when.extend_from_slice(b"null");
            } else {
                put_json_string(&mut when, &self.message_id);
            }
            when.extend_from_slice(b",\"seq\":\"");
            put_padded(&mut when, self.step, 12);
            when.push(b'-');
            put_padded(&mut when, self.record, 9);
            when.push(b'"');
            when
        })
    }

    fn kind(&self) -> &'static [u8] {
        if self.by_time {
            b"time"
        } else {
            b"event"
        }
    }
}

/// The outputs of one update, in order.
#[derive(Default)]
pub struct Told {
    /// Topic, and where the value stands in `text`.
    pub outputs: Vec<(Topic, Range<usize>)>,
    pub text: Vec<u8>,
}

impl Told {
    /// A trait that has another value.
    pub fn trait_change(
        &mut self,
        profile: &Profile,
        key: &Arc<str>,
        is_custom: bool,
        (previous, value): (&Value, &Value),
        cause: &Cause,
        tally: &mut Tally,
    ) {
        let start = self.text.len();
        let out = &mut self.text;
        begin(out, profile, b",\"trait_key\":", key);
        out.extend_from_slice(if is_custom { b",\"class\":\"custom\"" } else { b",\"class\":\"computed\"" });
        out.extend_from_slice(b",\"value\":");
        value.put_json(out);
        out.extend_from_slice(b",\"previous\":");
        previous.put_json(out);
        out.push(b',');
        out.extend_from_slice(cause.when());
        out.push(b'}');
        count(tally, if is_custom { Counted::CustomTrait } else { Counted::ComputedTrait });
        self.outputs.push((Topic::TraitChanges, start..self.text.len()));
    }

    /// An entry or an exit.
    pub fn audience_change(
        &mut self,
        profile: &Profile,
        key: &Arc<str>,
        entered: bool,
        cause: &Cause,
        tally: &mut Tally,
    ) {
        let start = self.text.len();
        let out = &mut self.text;
        begin(out, profile, b",\"audience_key\":", key);
        out.extend_from_slice(if entered { b",\"change\":\"entered\"" } else { b",\"change\":\"exited\"" });
        out.extend_from_slice(b",\"cause\":\"");
        out.extend_from_slice(cause.kind());
        out.extend_from_slice(b"\",");
        out.extend_from_slice(cause.when());
        out.extend_from_slice(b",\"external_ids\":");
        put_external_ids(out, &profile.external_ids);
        out.push(b'}');
        count(tally, Counted::Audience { key: key.clone(), entered, by_time: cause.by_time });
        self.outputs.push((Topic::AudienceChanges, start..self.text.len()));
    }

    /// Tell the news about one identifier combination: identify before track, if both are sent.
    pub fn messages(&mut self, news: &News<'_>, whom: &Combination, tally: &mut Tally) {
        let connection = news.connection;
        for (sends, call) in [(connection.identify, "identify"), (connection.track, "track")] {
            if sends {
                count(tally, Counted::Destination(connection.destination.clone()));
                let start = self.text.len();
                news.payload(call, whom, &mut self.text);
                self.outputs.push((Topic::Destination(connection.topic.clone()), start..self.text.len()));
            }
        }
    }
}

/// One more of it.
pub fn count(tally: &mut Tally, what: Counted) {
    *tally.entry(what).or_insert(0) += 1;
}

fn begin(out: &mut Vec<u8>, profile: &Profile, name: &[u8], key: &str) {
    out.extend_from_slice(b"{\"profile_id\":");
    put_json_string(out, &profile.id);
    out.extend_from_slice(if profile.is_user {
        b",\"collection\":\"users\"".as_slice()
    } else {
        b",\"collection\":\"accounts\""
    });
    out.extend_from_slice(name);
    put_json_string(out, key);
}

/// By type, in the order of the profile.
fn put_external_ids(out: &mut Vec<u8>, known: &[KnownId]) {
    // A profile may hold thousands, of a handful of types.
    let mut by_type: Vec<(&str, Vec<&str>)> = Vec::new();
    for one in known {
        match by_type.iter_mut().find(|(type_, _)| *type_ == &*one.type_) {
            Some((_, ids)) => ids.push(&one.id),
            None => by_type.push((&one.type_, vec![&one.id])),
        }
    }
    out.push(b'{');
    for (place, (type_, ids)) in by_type.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        put_json_string(out, type_);
        out.extend_from_slice(b":[");
        for (number, id) in ids.iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            put_json_string(out, id);
        }
        out.push(b']');
    }
    out.push(b'}');
}

/// What one destination is to hear about one profile.
pub struct News<'a> {
    pub space: &'a str,
    pub profile: &'a Profile,
    pub route: &'a Route,
    pub connection: &'a Connection,
    pub is_audience: bool,
    pub value: &'a Value,
    pub cause: &'a Cause,
    /// Further traits that ride along.
    pub enrichment: &'a [(Arc<str>, Value)],
}

/// Fields of an object in order; of the same one, the earlier value holds.
#[derive(Default)]
struct Fields<'a>(Vec<(&'a str, Field<'a>)>);

enum Field<'a> {
    Text(&'a str),
    Value(&'a Value),
}

impl<'a> Fields<'a> {
    fn join(&mut self, name: &'a str, field: Field<'a>) {
        if !self.0.iter().any(|(held, _)| *held == name) {
            self.0.push((name, field));
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (place, (name, field)) in self.0.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            put_json_string(out, name);
            out.push(b':');
            match field {
                Field::Text(text) => put_json_string(out, text),
                Field::Value(value) => value.put_json(out),
            }
        }
        out.push(b'}');
    }
}

const MOBILE_TYPES: [&str; 2] = ["android.idfa", "ios.idfa"];

impl News<'_> {
    fn payload(&self, call: &str, whom: &Combination, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(call.as_bytes());
        out.push(b'"');
        let is_track = call == "track";
        if is_track {
            out.extend_from_slice(b",\"event\":");
            put_json_string(out, self.event_name());
        }
        put_sender(out, whom);
        out.extend_from_slice(b",\"messageId\":\"personas_");
        out.extend_from_slice(&self.message_id(call, whom));
        out.extend_from_slice(b"\",\"timestamp\":\"");
        put_instant(out, self.cause.time);
        out.push(b'"');
        let identifiers = self.identifier_fields(whom);
        let class = if self.is_audience { "audience" } else { "trait" };
        let key = &*self.route.key;
        let about = if self.is_audience { "audience_key" } else { "trait_key" };
        let mut fields = Fields::default();
        if is_track {
            if key != about {
                fields.join(about, Field::Text(key));
            }
            fields.join(key, Field::Value(self.value));
        } else {
            fields.join(key, Field::Value(self.value));
            for (name, id) in &identifiers {
                fields.join(name, Field::Text(id));
            }
        }
        for (name, value) in self.enrichment {
            fields.join(name, Field::Value(value));
        }
        out.extend_from_slice(if is_track { b",\"properties\":".as_slice() } else { b",\"traits\":" });
        fields.put(out);
        out.extend_from_slice(b",\"context\":{\"personas\":{\"computation_class\":\"");
        out.extend_from_slice(class.as_bytes());
        out.extend_from_slice(b"\",\"computation_id\":");
        put_json_string(out, &self.route.id);
        out.extend_from_slice(b",\"computation_key\":");
        put_json_string(out, key);
        for name in [b",\"namespace\":\"spa_".as_slice(), b",\"space_id\":\"spa_"] {
            out.extend_from_slice(name);
            out.extend_from_slice(self.space.as_bytes());
            out.push(b'"');
        }
        out.push(b'}');
        if is_track && !identifiers.is_empty() {
            let mut riding = Fields::default();
            for (name, id) in &identifiers {
                riding.join(name, Field::Text(id));
            }
            out.extend_from_slice(b",\"traits\":");
            riding.put(out);
        }
        put_device(out, whom);
        out.extend_from_slice(b"},\"integrations\":{\"All\":");
        if &*self.connection.destination == "All" {
            out.extend_from_slice(b"true}}");
        } else {
            out.extend_from_slice(b"false,");
            put_json_string(out, &self.connection.destination);
            out.extend_from_slice(b":true}}");
        }
    }

    fn event_name(&self) -> &str {
        match (self.is_audience, self.value) {
            (false, _) => &self.connection.compute_event,
            (true, Value::Bool(true)) => &self.connection.enter_event,
            (true, _) => &self.connection.exit_event,
        }
    }

    /// Derived from all that the message says: a receiver can drop what was sent twice.
    fn message_id(&self, call: &str, whom: &Combination) -> [u8; crate::text::ID_DIGITS] {
        let mut hash = Derive::new();
        hash.part(b"destination").part(self.space.as_bytes()).part(self.profile.id.as_bytes());
        hash.part(self.route.key.as_bytes()).part(self.connection.destination.as_bytes());
        hash.part(call.as_bytes()).part(&self.value.canonical());
        if self.cause.by_time {
            let mut because = Vec::with_capacity(24);
            put_instant(&mut because, self.cause.time);
            hash.part(&because);
        } else {
            hash.part(self.cause.message_id.as_bytes());
        }
        for (type_, id) in whom {
            hash.part(type_.as_bytes()).part(id.as_bytes());
        }
        hash.base62()
    }

    /// The ids that ride in fields; others have their usual places.
    fn identifier_fields<'w>(&'w self, whom: &'w Combination) -> Vec<(&'w str, &'w str)> {
        let mut riding: Vec<(&str, &str)> = Vec::new();
        for (type_, id) in whom {
            let chosen = self.connection.fields.iter().find(|(held, _)| held == type_).map(|(_, field)| &**field);
            let usual = matches!(&**type_, "user_id" | "anonymous_id") || MOBILE_TYPES.contains(&&**type_);
            let Some(field) = chosen.or(if usual { None } else { Some(&**type_) }) else { continue };
            match riding.iter_mut().find(|(held, _)| *held == field) {
                Some((_, held)) => *held = id,
                None => riding.push((field, id)),
            }
        }
        riding
    }
}

fn id_of<'w>(whom: &'w Combination, type_: &str) -> Option<&'w str> {
    whom.iter().find(|(held, _)| &**held == type_).map(|(_, id)| &**id)
}

/// Who the call is about: a `userId` or an `anonymousId`, made of another id where there is neither.
fn put_sender(out: &mut Vec<u8>, whom: &Combination) {
    if let Some(id) = id_of(whom, "user_id") {
        out.extend_from_slice(b",\"userId\":");
        put_json_string(out, id);
        return;
    }
    out.extend_from_slice(b",\"anonymousId\":");
    if let Some(id) = id_of(whom, "anonymous_id") {
        put_json_string(out, id);
        return;
    }
    let prefixes = [("email", "eml"), (MOBILE_TYPES[0], "idfa"), (MOBILE_TYPES[1], "idfa")];
    let usual = prefixes.iter().find_map(|(type_, prefix)| id_of(whom, type_).map(|id| (*prefix, id)));
    let first = || whom.first().map(|(type_, id)| (&**type_, &**id));
    let (prefix, id) = usual.or_else(first).unwrap_or(("", ""));
    let mut text = String::with_capacity(prefix.len() + 41);
    let _ = write!(text, "{prefix}_{}", sha1_smol::Sha1::from(id).digest());
    put_json_string(out, &text);
}

/// The advertising id, if the combination holds one.
fn put_device(out: &mut Vec<u8>, whom: &Combination) {
    for type_ in MOBILE_TYPES {
        if let Some(id) = id_of(whom, type_) {
            out.extend_from_slice(b",\"device\":{\"type\":\"");
            out.extend_from_slice(type_.split('.').next().unwrap_or("").as_bytes());
            out.extend_from_slice(b"\",\"advertisingId\":");
            put_json_string(out, id);
            out.push(b'}');
            return;
        }
    }
}
