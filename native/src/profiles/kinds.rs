//! Trait kinds: states of events that are added to and read, as `traits.kinds` does it.
//!
//! A state is the same JSON value that Python keeps. `Null` stands for none yet.

use std::cmp::Ordering;
use std::mem;

use super::nodes::{Kind, Reduction};
use super::numbers::{measure, precedes, text_of, Total};
use crate::text::{Duration, Instant};
use crate::value::{Json, Value};

/// How many candidate events are kept of one profile and reduction.
pub const ROWS_MAX: usize = 10_000;
/// How many distinct values are kept.
pub const VALUES_MAX: usize = 10_000;
/// How many sessions are kept.
pub const SESSIONS_MAX: usize = 64;

/// When an event happened, and which it was.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    pub time: Instant,
    pub message_id: &'a str,
}

/// One more event with this value; whether the state is another one now.
pub fn add(kind: Kind, state: &mut Value, value: Option<&Value>, at: Moment<'_>) -> bool {
    let Some(value) = value else {
        if kind == Kind::Count {
            *state = Value::Int(state.as_int().unwrap_or(0) + 1);
            return true;
        }
        return false;
    };
    match kind {
        Kind::Count => {
            *state = Value::Int(state.as_int().unwrap_or(0) + 1);
            true
        }
        Kind::Sum | Kind::Avg | Kind::Min | Kind::Max => match measure(value) {
            None => false,
            Some(number) => match kind {
                Kind::Sum => merge(kind, state, single_total(&number, None)),
                Kind::Avg => merge(kind, state, single_total(&number, Some(1))),
                _ => merge(kind, state, number),
            },
        },
        Kind::MinText | Kind::MaxText => merge(kind, state, Value::Text(text_of(value).into())),
        Kind::First | Kind::Last => {
            let end = vec![Value::Int(at.time), Value::Text(at.message_id.into()), value.clone()];
            merge(kind, state, Value::Array(end))
        }
        Kind::Mode => {
            let text = match value {
                Value::Text(text) => text.clone(),
                _ => text_of(value).into(),
            };
            merge(kind, state, Value::Object(vec![(text, Value::Int(1))]))
        }
        Kind::Unique => add_distinct(state, as_json(value)),
    }
}

fn single_total(number: &Value, count: Option<i64>) -> Value {
    total_value(&Total::of(number).unwrap_or_else(|| Total::whole(0)), count)
}

fn total_value(total: &Total, count: Option<i64>) -> Value {
    let (digits, scale) = total.written();
    let mut parts = vec![digits, scale];
    parts.extend(count.map(Value::Int));
    Value::Array(parts)
}

fn total_in(state: &Value) -> Option<(Total, i64)> {
    let parts = state.as_array()?;
    let count = parts.get(2).and_then(Value::as_int).unwrap_or(0);
    Some((Total::read(parts.first()?, parts.get(1)?)?, count))
}

/// JSON text of a value; 1 and 1.0 are one.
fn as_json(value: &Value) -> Box<str> {
    let measured = measure(value);
    String::from_utf8_lossy(&measured.as_ref().unwrap_or(value).canonical()).into()
}

fn add_distinct(state: &mut Value, text: Box<str>) -> bool {
    if !matches!(state, Value::Array(_)) {
        *state = Value::Array(Vec::new());
    }
    let Value::Array(held) = state else { return false };
    let order = |one: &Value| one.as_text().unwrap_or("").cmp(&text);
    match held.binary_search_by(order) {
        Ok(_) => false,
        Err(place) => {
            held.insert(place, Value::Text(text));
            held.truncate(VALUES_MAX);
            true
        }
    }
}

/// Both together; whether the state is another one than it was.
pub fn merge(kind: Kind, state: &mut Value, other: Value) -> bool {
    if other.is_null() {
        return false;
    }
    if state.is_null() && kind != Kind::Mode {
        *state = other;
        return true;
    }
    match kind {
        Kind::Count => {
            *state = Value::Int(state.as_int().unwrap_or(0) + other.as_int().unwrap_or(0));
            true
        }
        Kind::Sum | Kind::Avg => {
            if let (Some((one, count)), Some((more, more_count))) = (total_in(state), total_in(&other)) {
                *state = total_value(&one.plus(&more), (kind == Kind::Avg).then_some(count + more_count));
            }
            true
        }
        Kind::Min => replace(state, other, |held, new| precedes(new, held)),
        Kind::Max => replace(state, other, precedes),
        Kind::MinText => replace(state, other, |held, new| new.as_text() < held.as_text()),
        Kind::MaxText => replace(state, other, |held, new| new.as_text() > held.as_text()),
        Kind::First => replace(state, other, |held, new| order_of_ends(new, held) == Ordering::Less),
        Kind::Last => replace(state, other, |held, new| order_of_ends(held, new) == Ordering::Less),
        Kind::Mode => {
            if state.is_null() {
                *state = Value::Object(Vec::new());
            }
            let (Value::Object(held), Value::Object(more)) = (state, other) else { return false };
            for (text, count) in more {
                match held.iter_mut().find(|(key, _)| *key == text) {
                    Some((_, known)) => {
                        *known = Value::Int(known.as_int().unwrap_or(0) + count.as_int().unwrap_or(0));
                    }
                    None => held.push((text, count)),
                }
            }
            if held.len() > VALUES_MAX {
                held.sort_by(|one, other| one.0.cmp(&other.0));
                held.truncate(VALUES_MAX);
            }
            true
        }
        Kind::Unique => {
            let Value::Array(more) = other else { return false };
            for text in more {
                if let Value::Text(text) = text {
                    add_distinct(state, text);
                }
            }
            true
        }
    }
}

fn replace(state: &mut Value, other: Value, is_better: impl Fn(&Value, &Value) -> bool) -> bool {
    let better = is_better(state, &other);
    if better {
        *state = other;
    }
    better
}

fn order_of_ends(one: &Value, other: &Value) -> Ordering {
    let part = |end: &Value, place: usize| end.as_array().and_then(|parts| parts.get(place).cloned());
    let (time, id, value) = (part(one, 0), part(one, 1), part(one, 2));
    let (other_time, other_id, other_value) = (part(other, 0), part(other, 1), part(other, 2));
    let int = |value: &Option<Value>| value.as_ref().and_then(Value::as_int);
    let text = |value: &Option<Value>| value.as_ref().and_then(Value::as_text).map(str::to_owned);
    int(&time)
        .cmp(&int(&other_time))
        .then_with(|| text(&id).cmp(&text(&other_id)))
        .then_with(|| value.map(|it| it.canonical()).cmp(&other_value.map(|it| it.canonical())))
}

/// One more event of the sessions that a gap parts; it prolongs one also when the kind inside has no use for its value.
pub fn add_to_sessions(kind: Kind, gap: Duration, state: &mut Value, value: Option<&Value>, at: Moment<'_>) {
    let mut inside = Value::Null;
    add(kind, &mut inside, value, at);
    if inside.is_null() {
        inside = zero(kind);
    }
    let mut bursts = match mem::replace(state, Value::Null) {
        Value::Array(bursts) => bursts,
        _ => Vec::new(),
    };
    bursts.push(Value::Array(vec![Value::Int(at.time), Value::Int(at.time), inside]));
    let times = |burst: &Value| {
        let part = |place: usize| burst.as_array().and_then(|parts| parts.get(place)).and_then(Value::as_int);
        (part(0).unwrap_or(0), part(1).unwrap_or(0))
    };
    bursts.sort_by_key(times);
    let mut joined: Vec<Value> = Vec::with_capacity(bursts.len());
    for burst in bursts {
        let (start, end) = times(&burst);
        if let Some(last) = joined.last_mut() {
            let (_, last_end) = times(last);
            if start - last_end < gap {
                let (Value::Array(held), Value::Array(mut more)) = (last, burst) else { continue };
                held[1] = Value::Int(last_end.max(end));
                merge(kind, &mut held[2], more.pop().unwrap_or(Value::Null));
                continue;
            }
        }
        joined.push(burst);
    }
    if joined.len() > SESSIONS_MAX {
        joined.drain(..joined.len() - SESSIONS_MAX);
    }
    *state = Value::Array(joined);
}

/// The state of no events, where it is written inside of sessions.
fn zero(kind: Kind) -> Value {
    match kind {
        Kind::Count => Value::Int(0),
        Kind::Mode => Value::Object(Vec::new()),
        Kind::Unique => Value::Array(Vec::new()),
        _ => Value::Null,
    }
}

/// Time of a row of candidates.
pub fn time_of(row: &Value) -> Instant {
    row.as_array().and_then(|parts| parts.first()).and_then(Value::as_int).unwrap_or(Instant::MIN)
}

/// The candidates of a state, in order.
pub fn rows_of(state: &Value) -> &[Value] {
    state.as_array().and_then(|parts| parts.get(1)).and_then(Value::as_array).unwrap_or(&[])
}

/// One more candidate with these values.
pub fn add_row(state: &mut Value, at: Moment<'_>, values: Vec<Value>) {
    let mut row = Vec::with_capacity(values.len() + 2);
    row.push(Value::Int(at.time));
    row.push(Value::Text(at.message_id.into()));
    row.extend(values);
    let row = Value::Array(row);
    if state.is_null() {
        *state = Value::Array(vec![Value::Int(at.time), Value::Array(vec![row])]);
        return;
    }
    let Value::Array(parts) = state else { return };
    let [Value::Int(seen), Value::Array(rows)] = parts.as_mut_slice() else { return };
    *seen = (*seen).min(at.time);
    if rows.last().is_none_or(|last| time_of(last) < at.time) {
        rows.push(row);
    } else {
        let key = order_of_row(&row);
        let place = rows.partition_point(|held| {
            let time = time_of(held);
            time < at.time || (time == at.time && order_of_row(held) <= key)
        });
        rows.insert(place, row);
    }
    if rows.len() > ROWS_MAX {
        rows.drain(..rows.len() - ROWS_MAX);
    }
}

/// Message id and values of a row, for those of one instant.
fn order_of_row(row: &Value) -> (Box<str>, Vec<u8>) {
    let parts = row.as_array().unwrap_or(&[]);
    let id = parts.get(1).and_then(Value::as_text).unwrap_or("");
    let values = Value::Array(parts.get(2..).unwrap_or(&[]).to_vec());
    (id.into(), values.canonical())
}

/// Without candidates of this instant and earlier; whether there were any.
pub fn prune_rows(state: &mut Value, before: Instant) -> bool {
    let Value::Array(parts) = state else { return false };
    let Some(Value::Array(rows)) = parts.get_mut(1) else { return false };
    let start = rows.partition_point(|row| time_of(row) <= before);
    rows.drain(..start);
    start > 0
}

/// The value of a running state, or None for none.
pub fn read(reduction: &Reduction, state: &Value) -> Option<Value> {
    match reduction.kind {
        Kind::Count => state.as_int().filter(|count| *count != 0).map(Value::Int),
        Kind::Sum => total_in(state).map(|(total, _)| total.quotient(1)),
        Kind::Avg => total_in(state).map(|(total, count)| total.quotient(count)),
        Kind::First | Kind::Last => state.as_array().and_then(|end| end.get(2)).cloned(),
        Kind::Min | Kind::Max | Kind::MinText | Kind::MaxText => (!state.is_null()).then(|| state.clone()),
        Kind::Mode => match state {
            Value::Object(counts) => most_frequent(reduction, counts),
            _ => None,
        },
        Kind::Unique => distinct(reduction, state.as_array()?),
    }
    .filter(|value| !value.is_null())
}

fn most_frequent(reduction: &Reduction, counts: &[(Box<str>, Value)]) -> Option<Value> {
    let greatest = counts.iter().filter_map(|(_, count)| count.as_int()).max()?;
    if greatest < reduction.minimum {
        return None;
    }
    let text = counts.iter().filter(|(_, count)| count.as_int() == Some(greatest)).map(|(text, _)| text).min()?;
    if reduction.as_json {
        Json::new(text.as_bytes()).value().ok()
    } else {
        Some(Value::Text(text.clone()))
    }
}

fn distinct(reduction: &Reduction, texts: &[Value]) -> Option<Value> {
    if texts.is_empty() {
        return None;
    }
    if reduction.counted {
        return Some(Value::Int(texts.len() as i64));
    }
    let mut values: Vec<(String, Value)> = texts
        .iter()
        .filter_map(Value::as_text)
        .filter_map(|text| Json::new(text.as_bytes()).value().ok())
        .map(|value| (text_of(&value), value))
        .collect();
    values.sort_by(|one, other| one.0.cmp(&other.0));
    Some(Value::Array(values.into_iter().map(|(_, value)| value).collect()))
}

/// Candidates, at least one, brought down to the reduction's value.
pub fn reduce(reduction: &Reduction, rows: &[&Value]) -> Option<Value> {
    let value = |row: &Value| row.as_array().and_then(|parts| parts.last().cloned()).filter(|it| !it.is_null());
    match reduction.kind {
        Kind::Count => return Some(Value::Int(rows.len() as i64)),
        Kind::First => return rows.first().and_then(|row| value(row)),
        Kind::Last => return rows.last().and_then(|row| value(row)),
        _ => {}
    }
    let mut state = Value::Null;
    let at = Moment { time: 0, message_id: "" };
    for row in rows {
        let Some(last) = row.as_array().and_then(|parts| parts.last()) else { continue };
        match last {
            Value::Array(each) if reduction.many => {
                for one in each {
                    add(reduction.kind, &mut state, Some(one), at);
                }
            }
            Value::Null => {}
            one => {
                add(reduction.kind, &mut state, Some(one), at);
            }
        }
    }
    if state.is_null() {
        None
    } else {
        read(reduction, &state)
    }
}
