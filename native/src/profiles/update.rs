//! The second half of the walk: an event, or a due time, and what comes of it (`pipeline.update_profile`, `fire_due`).

use std::cell::Cell;
use std::sync::Arc;

use super::event::Opened;
use super::fold::{fold_custom, fold_states, prune_states};
use super::kinds::rows_of;
use super::nodes::Node;
use super::numbers::same;
use super::outputs::{count, Cause, Counted, Tally, Told};
use super::plan::{Computation, Plan};
use super::profile::{KnownId, Names, Profile};
use super::route::{route_memberships, route_traits, Formed};
use super::world::{holds, read, Found, Scope, World, NEVER};
use crate::text::Instant;
use crate::value::Value;

const IDENTIFIED_TYPES: [&str; 4] = ["user_id", "email", "android.idfa", "ios.idfa"];

fn identifies(type_: &str) -> bool {
    IDENTIFIED_TYPES.contains(&type_)
}

/// Does the profile have so many candidates that Python, which keeps what it finds out about them, is the better one?
pub fn is_crowded(profile: &Profile, plan: &Plan) -> bool {
    plan.bounded.iter().any(|&place| {
        let aggregation = &plan.aggregations[place];
        let rows = profile.states.get(&*aggregation.key).map_or(0, |state| rows_of(state).len());
        aggregation.rows_max.is_some_and(|most| rows > most)
    })
}

/// What `update` and `fire` work with beside the profile.
pub struct Room<'a> {
    pub plan: &'a Plan,
    pub names: &'a mut Names,
    pub tally: &'a mut Tally,
    pub told: &'a mut Told,
}

/// Fold the event into its profile, evaluate what it can have changed, and tell it.
pub fn update(profile: &mut Profile, event: &Opened<'_>, is_new: bool, room: &mut Room<'_>, cause: &Cause) {
    let plan = room.plan;
    let changed = fold_custom(profile, event, room.names);
    for (key, previous, value) in &changed {
        room.told.trait_change(profile, key, true, (previous, value), cause, room.tally);
    }
    let mut full = Vec::new();
    let folded = profile.is_user && fold_states(profile, event, plan, &mut full);
    if changed.is_empty() && event.external_ids.is_empty() && !folded {
        return;
    }
    for (type_, id, first_seen) in &event.external_ids {
        let type_ = room.names.shared(type_);
        profile.external_ids.push(KnownId { type_, id: id.clone(), first_seen: *first_seen });
    }
    if !profile.is_user {
        return;
    }
    let only = if is_new {
        None
    } else {
        let mut places: Vec<usize> = Vec::new();
        if let (true, Some(name)) = (folded, &event.name) {
            places.extend(plan.touched_by_event.get(name).into_iter().flatten());
        }
        for (key, _, _) in &changed {
            places.extend(plan.touched_by_custom.get(&**key).into_iter().flatten());
        }
        if event.external_ids.iter().any(|(type_, _, _)| identifies(type_)) {
            places.extend(&plan.touched_by_identity);
        }
        places.sort_unstable();
        places.dedup();
        Some(places)
    };
    settle(profile, room, cause, event.now, only.as_deref(), !event.external_ids.is_empty());
    for place in full {
        count(room.tally, Counted::Limit(plan.aggregations[place].name.clone()));
    }
}

/// Evaluate what is due at this instant, and tell it.
pub fn fire(profile: &mut Profile, instant: Instant, room: &mut Room<'_>, cause: &Cause) {
    let plan = room.plan;
    let mut only: Vec<usize> = Vec::new();
    for (key, due) in &profile.dues {
        if *due <= instant {
            only.extend(plan.touched_by_time.get(&**key).into_iter().flatten());
        }
    }
    only.sort_unstable();
    only.dedup();
    let aggregations = only.iter().flat_map(|&place| plan.order[place].aggregations.iter().copied());
    prune_states(profile, plan, aggregations, instant);
    // Dues of computations that are declared no more go, too.
    profile.dues.retain(|_, due| *due > instant);
    if profile.is_user {
        settle(profile, room, cause, instant, Some(&only), false);
    }
    count(room.tally, Counted::Due);
}

/// Evaluate once, and tell every difference to what was true before. `only`: places of what can have changed; None: all.
fn settle(
    profile: &mut Profile,
    room: &mut Room<'_>,
    cause: &Cause,
    now: Instant,
    only: Option<&[usize]>,
    new_ids: bool,
) {
    let plan = room.plan;
    if only.is_some_and(<[usize]>::is_empty) && !new_ids {
        return;
    }
    let identified = profile.external_ids.iter().any(|known| identifies(&known.type_));
    if only.is_none() {
        profile.dues.clear();
    }
    let all: Vec<usize>;
    let places = match only {
        Some(only) => only,
        None => {
            all = (0..plan.order.len()).collect();
            &all
        }
    };
    let mut changes: Vec<(&Computation, Value)> = Vec::new();
    for &place in places {
        let computation = &plan.order[place];
        if let Some(previous) = evaluate(profile, computation, identified, now) {
            changes.push((computation, previous));
        }
    }
    changes.sort_by_key(|(computation, _)| (computation.is_audience, computation.declared));
    for (computation, previous) in &changes {
        let key = &computation.key;
        if computation.is_audience {
            let member = profile.memberships.get(&**key).copied().unwrap_or(false);
            room.told.audience_change(profile, key, member, cause, room.tally);
        } else {
            let value = profile.computed.get(&**key).unwrap_or(&Value::Null);
            room.told.trait_change(profile, key, false, (previous, value), cause, room.tally);
        }
    }
    let keys: Vec<Arc<str>> = changes.iter().map(|(computation, _)| computation.key.clone()).collect();
    // Destinations know a settled profile as it was. Beside what has changed, they hear of new ids, and of new routes.
    let news = (only.is_some() && !new_ids).then_some(keys.as_slice());
    if news.is_some_and(<[Arc<str>]>::is_empty) {
        return;
    }
    let mut formed = Formed::default();
    route_traits(profile, plan, cause, news, &mut formed, room.told, room.tally);
    route_memberships(profile, plan, cause, news, &mut formed, room.told, room.tally);
}

/// Compute one trait or audience. Its former value, if that was another one.
fn evaluate(profile: &mut Profile, computation: &Computation, identified: bool, now: Instant) -> Option<Value> {
    let eligible = identified || computation.include_anonymous;
    let key = &computation.key;
    let scope = Scope { profile, now, due: Cell::new(NEVER) };
    let world = World::Profile(&scope);
    let value = match &computation.body {
        Node::Condition(condition) => Some(Value::Bool(eligible && holds(condition, world))),
        // Several values are an array; where there are none, a trait has no value.
        Node::Scalar(scalar) if eligible => Some(read(scalar, world)).filter(Found::is_any).and_then(Found::into_value),
        Node::Scalar(_) => None,
    };
    let due = scope.due.get();
    if due < NEVER {
        profile.dues.insert(key.clone(), due);
    } else {
        profile.dues.shift_remove(&**key);
    }
    if let Some(Value::Bool(member)) = value.as_ref().filter(|_| computation.is_audience) {
        let held = profile.memberships.get(&**key).copied();
        if *member || held.is_some() {
            profile.memberships.insert(key.clone(), *member);
        }
        let before = held.unwrap_or(false);
        return (before != *member).then_some(Value::Bool(before));
    }
    let value = value.unwrap_or(Value::Null);
    match profile.computed.get_mut(&**key) {
        Some(held) => {
            let differs = !same(held, &value);
            let previous = std::mem::replace(held, value);
            differs.then_some(previous)
        }
        None if value.is_null() => None,
        None => {
            profile.computed.insert(key.clone(), value);
            Some(Value::Null)
        }
    }
}
