//! An event is folded into its profile's custom traits and into the states of computed ones (`traits.fold`).

use std::sync::Arc;

use super::event::Opened;
use super::kinds::{add, add_row, add_to_sessions, prune_rows, rows_of, Moment, ROWS_MAX, SESSIONS_MAX, VALUES_MAX};
use super::nodes::{Kind, Scalar};
use super::numbers::{as_number, measure, same, text_of};
use super::plan::{Aggregation, Convert, Plan, ValueOf};
use super::profile::{CustomTrait, Names, Profile};
use super::world::{holds, lookup, read, Found, World};
use crate::text::Instant;
use crate::value::Value;

const SOURCE_KEY: &str = "\0source";

/// A custom trait that has another value: key, previous value, value.
pub type CustomChange = (Arc<str>, Value, Value);

/// The custom traits after the event, in place; what changed, by key.
pub fn fold_custom(profile: &mut Profile, event: &Opened<'_>, names: &mut Names) -> Vec<CustomChange> {
    let Value::Object(traits) = &event.traits else { return Vec::new() };
    let mut order: Vec<&(Box<str>, Value)> = traits.iter().collect();
    order.sort_by(|one, other| one.0.cmp(&other.0));
    let mut changed = Vec::new();
    for (key, value) in order {
        let held = CustomTrait { value: value.clone(), time: event.time, message_id: event.message_id.clone() };
        match profile.custom.get_mut(&**key) {
            Some(before) => {
                if (event.time, &event.message_id) <= (before.time, &before.message_id) {
                    continue;
                }
                let previous = std::mem::replace(before, held).value;
                if !same(&previous, value) {
                    changed.push((names.shared(key), previous, value.clone()));
                }
            }
            None => {
                let key = names.shared(key);
                profile.custom.insert(key.clone(), held);
                if !value.is_null() {
                    changed.push((key, Value::Null, value.clone()));
                }
            }
        }
    }
    changed
}

/// The states after the event, in place; whether any is another one. `full`: aggregations that are at their limit.
pub fn fold_states(profile: &mut Profile, event: &Opened<'_>, plan: &Plan, full: &mut Vec<usize>) -> bool {
    let Some(places) = event.name.as_ref().and_then(|name| plan.by_event.get(name)) else { return false };
    let mut changed = false;
    for &place in places {
        let aggregation = &plan.aggregations[place];
        if aggregation.since.is_some_and(|since| event.time < since) || !matches(aggregation, event) {
            continue;
        }
        if fold_one(profile, event, aggregation) {
            changed = true;
            if is_full(aggregation, &profile.states[&*aggregation.key]) {
                full.push(place);
            }
        }
    }
    changed
}

fn matches(aggregation: &Aggregation, event: &Opened<'_>) -> bool {
    if !aggregation.excluded.is_empty() {
        let source = event.context.get(SOURCE_KEY).and_then(Value::as_text);
        if source.is_some_and(|source| aggregation.excluded.iter().any(|name| &**name == source)) {
            return false;
        }
    }
    aggregation.arrival.as_ref().is_none_or(|arrival| holds(arrival, World::Event(event)))
}

fn fold_one(profile: &mut Profile, event: &Opened<'_>, aggregation: &Aggregation) -> bool {
    let message_id = if aggregation.keeps_ids { &*event.message_id } else { "" };
    let at = Moment { time: event.time, message_id };
    let value = aggregation.value.as_ref().map_or(Taken::None, |value| take(value, event));
    if aggregation.is_rows {
        let Some(row) = row(aggregation, event, value) else { return false };
        let state = state_of(profile, aggregation);
        add_row(state, at, row);
        if let Some(horizon) = aggregation.horizon {
            prune_rows(state, event.now - horizon);
        }
        return true;
    }
    if let Some(gap) = aggregation.gap {
        let state = state_of(profile, aggregation);
        match value {
            Taken::Many(each) => {
                for one in &each {
                    add_to_sessions(aggregation.kind, gap, state, Some(one), at);
                }
            }
            Taken::One(one) => add_to_sessions(aggregation.kind, gap, state, Some(&one), at),
            Taken::None => add_to_sessions(aggregation.kind, gap, state, None, at),
        }
        return true;
    }
    let mut fresh = Value::Null;
    let is_new = !profile.states.contains_key(&*aggregation.key);
    let state = profile.states.get_mut(&*aggregation.key).unwrap_or(&mut fresh);
    let changed = match value {
        Taken::Many(each) => {
            each.iter().fold(false, |changed, one| add(aggregation.kind, state, Some(one), at) | changed)
        }
        Taken::One(one) => add(aggregation.kind, state, Some(&one), at),
        Taken::None => add(aggregation.kind, state, None, at),
    };
    if changed && is_new {
        profile.states.insert(aggregation.key.clone(), fresh);
    }
    changed
}

fn state_of<'p>(profile: &'p mut Profile, aggregation: &Aggregation) -> &'p mut Value {
    profile.states.entry(aggregation.key.clone()).or_insert(Value::Null)
}

fn is_full(aggregation: &Aggregation, state: &Value) -> bool {
    if aggregation.is_rows {
        return rows_of(state).len() >= ROWS_MAX;
    }
    match state {
        Value::Array(sessions) if aggregation.gap.is_some() => sessions.len() >= SESSIONS_MAX,
        Value::Array(values) if aggregation.kind == Kind::Unique => values.len() >= VALUES_MAX,
        Value::Object(values) => values.len() >= VALUES_MAX,
        _ => false,
    }
}

/// What the reducer takes of an event.
enum Taken {
    None,
    One(Value),
    Many(Vec<Value>),
}

fn take(value: &ValueOf, event: &Opened<'_>) -> Taken {
    if value.convert == Convert::Canonical {
        return array_of(value, event).map_or(Taken::None, Taken::One);
    }
    let found = read(&value.of, World::Event(event));
    if !value.many {
        return match found {
            Found::One(one) => convert(value.convert, &one).map_or(Taken::None, Taken::One),
            _ => Taken::None,
        };
    }
    let mut each: Vec<Value> = found.each().iter().filter_map(|one| convert(value.convert, one)).collect();
    match value.kind {
        Kind::First if !each.is_empty() => Taken::One(each.swap_remove(0)),
        Kind::Last => each.pop().map_or(Taken::None, Taken::One),
        _ if each.is_empty() => Taken::None,
        _ => Taken::Many(each),
    }
}

/// An array as one value: its canonical text.
fn array_of(value: &ValueOf, event: &Opened<'_>) -> Option<Value> {
    let Scalar::Property { path, .. } = &value.of else { return None };
    let array = if path.has_element {
        let each = super::world::lookup_each(&event.properties, &path.keys);
        if each.is_empty() {
            return None;
        }
        Value::Array(each.into_iter().map(std::borrow::Cow::into_owned).collect())
    } else {
        lookup(&event.properties, &path.keys).filter(|value| value.as_array().is_some())?.clone()
    };
    Some(Value::Text(String::from_utf8_lossy(&array.canonical()).into()))
}

fn convert(how: Convert, value: &Value) -> Option<Value> {
    match how {
        Convert::AsIs | Convert::Canonical => Some(value.clone()),
        Convert::Number => as_number(value),
        Convert::NumberText => as_number(value).map(|number| Value::Text(text_of(&number).into())),
        Convert::Text => Some(Value::Text(text_of(value).into())),
        Convert::Measure => measure(value),
    }
}

/// Columns and the reducer's value; None when the reducer skips the event. A session is of events, with a value or without.
fn row(aggregation: &Aggregation, event: &Opened<'_>, value: Taken) -> Option<Vec<Value>> {
    let world = World::Event(event);
    let mut row: Vec<Value> =
        aggregation.columns.iter().map(|column| read(column, world).into_value().unwrap_or(Value::Null)).collect();
    if aggregation.value.is_some() {
        row.push(match value {
            Taken::One(one) => one,
            Taken::Many(each) => Value::Array(each),
            Taken::None if aggregation.of_session => Value::Null,
            Taken::None => return None,
        });
    }
    Some(row)
}

/// Without the candidates that have become too old to matter.
pub fn prune_states(profile: &mut Profile, plan: &Plan, aggregations: impl Iterator<Item = usize>, now: Instant) {
    for place in aggregations {
        let aggregation = &plan.aggregations[place];
        if let (true, Some(horizon)) = (aggregation.is_rows, aggregation.horizon) {
            if let Some(state) = profile.states.get_mut(&*aggregation.key) {
                prune_rows(state, now - horizon);
            }
        }
    }
}
