//! What destinations were told and what is true now are compared; every difference is told (`destinations.route`).

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::numbers::alike;
use super::outputs::{Cause, News, Tally, Told};
use super::plan::{Connection, Plan, Route, Selection, Strategy};
use super::profile::{Combination, Map, Met, Profile};
use super::world::{read, Scope, World, NEVER};
use crate::value::Value;

/// How many combinations of one profile a destination is told about.
const COMBINATIONS_MAX: usize = 1_000;

/// Whom selections take, each formed once an update: most destinations ask for the same.
#[derive(Default)]
pub struct Formed(FxHashMap<usize, Rc<[Combination]>>);

impl Formed {
    fn of(&mut self, profile: &Profile, selection: &Selection) -> Rc<[Combination]> {
        let form = || combinations(profile, selection).into();
        self.0.entry(selection.number).or_insert_with(form).clone()
    }
}

/// Tell destinations of computed traits. `only`: keys that can have something to tell; None: all.
pub fn route_traits(
    profile: &mut Profile,
    plan: &Plan,
    cause: &Cause,
    only: Option<&[Arc<str>]>,
    formed: &mut Formed,
    told: &mut Told,
    tally: &mut Tally,
) {
    for route in &plan.trait_routes {
        if only.is_some_and(|only| !only.contains(&route.key)) {
            continue;
        }
        let value = profile.computed.get(&*route.key).cloned().unwrap_or(Value::Null);
        for connection in &route.connections {
            let last = profile.told.get(&*connection.destination).and_then(|keys| keys.get(&*route.key));
            let differs = |whom: &Combination| {
                let held = last.and_then(|last| last.iter().find(|(held, _)| held == whom)).map(|(_, value)| value);
                !alike(held.unwrap_or(&Value::Null), &value)
            };
            let whom = formed.of(profile, &connection.entries);
            let heard: Vec<Combination> = whom.iter().filter(|whom| differs(whom)).cloned().collect();
            if heard.is_empty() {
                continue;
            }
            tell(profile, plan, (route, connection, false), &value, cause, &heard, told, tally);
            let last = entry(&mut profile.told, &connection.destination, &route.key);
            for whom in heard {
                match last.iter_mut().find(|(held, _)| *held == whom) {
                    Some((_, held)) => *held = value.clone(),
                    None => last.push((whom, value.clone())),
                }
            }
        }
    }
}

/// Tell destinations of memberships: an entry to whom it is not open yet, an exit to whom it is.
pub fn route_memberships(
    profile: &mut Profile,
    plan: &Plan,
    cause: &Cause,
    only: Option<&[Arc<str>]>,
    formed: &mut Formed,
    told: &mut Told,
    tally: &mut Tally,
) {
    let mut emptied = false;
    for route in &plan.audience_routes {
        if only.is_some_and(|only| !only.contains(&route.key)) {
            continue;
        }
        let member = profile.memberships.get(&*route.key).copied().unwrap_or(false);
        for connection in &route.connections {
            let already: &[Combination] = profile
                .open
                .get(&*connection.destination)
                .and_then(|keys| keys.get(&*route.key))
                .map_or(&[], Vec::as_slice);
            let mut heard: Vec<Combination> = if member {
                let whom = formed.of(profile, &connection.entries);
                whom.iter().filter(|whom| !already.contains(whom)).cloned().collect()
            } else {
                already.to_vec()
            };
            if heard.is_empty() {
                continue;
            }
            if !member {
                if let Some(exits) = &connection.exits {
                    for whom in formed.of(profile, exits).iter() {
                        if !heard.contains(whom) {
                            heard.push(whom.clone());
                        }
                    }
                }
            }
            tell(profile, plan, (route, connection, true), &Value::Bool(member), cause, &heard, told, tally);
            let open = entry(&mut profile.open, &connection.destination, &route.key);
            if member {
                open.extend(heard);
            } else {
                open.clear();
                emptied = true;
            }
        }
    }
    if emptied {
        for keys in profile.open.values_mut() {
            keys.retain(|_, opened| !opened.is_empty());
        }
        profile.open.retain(|_, keys| !keys.is_empty());
    }
}

fn entry<'m, T>(held: &'m mut Map<Map<Vec<T>>>, destination: &Arc<str>, key: &Arc<str>) -> &'m mut Vec<T> {
    held.entry(destination.clone()).or_default().entry(key.clone()).or_default()
}

#[allow(clippy::too_many_arguments)] // what is told, of whom, to whom, why, and where it goes
fn tell(
    profile: &Profile,
    plan: &Plan,
    (route, connection, is_audience): (&Route, &Connection, bool),
    value: &Value,
    cause: &Cause,
    heard: &[Combination],
    told: &mut Told,
    tally: &mut Tally,
) {
    let enrichment = enrichment_of(profile, connection);
    let news =
        News { space: &plan.space, profile, route, connection, is_audience, value, cause, enrichment: &enrichment };
    for whom in heard {
        told.messages(&news, whom, tally);
    }
}

/// The chosen traits' present values; one without a value is left out.
fn enrichment_of(profile: &Profile, connection: &Connection) -> Vec<(Arc<str>, Value)> {
    if connection.enrichment.is_empty() {
        return Vec::new();
    }
    let scope = Scope { profile, now: 0, due: Cell::new(NEVER) };
    connection
        .enrichment_keys
        .iter()
        .zip(&connection.enrichment)
        .filter_map(|(key, of)| Some((key.clone(), read(of, World::Profile(&scope)).into_value()?)))
        .collect()
}

/// Whom a selection takes, each combination once, in the order of the profile's ids (`destinations.combine`).
pub fn combinations(profile: &Profile, selection: &Selection) -> Vec<Combination> {
    let kinds: Vec<Combination> =
        selection.kinds.iter().map(|kind| of_kind(profile, kind)).filter(|ids| !ids.is_empty()).collect();
    let mut found: Vec<Combination> = Vec::new();
    if !selection.product {
        found.extend(kinds.into_iter().flatten().map(|pair| vec![pair]));
    } else if !kinds.is_empty() {
        found.push(Vec::new());
        for kind in &kinds {
            let longer = found.iter().flat_map(|begun| {
                kind.iter().map(move |pair| {
                    let mut one = begun.clone();
                    one.push(pair.clone());
                    one
                })
            });
            found = longer.take(COMBINATIONS_MAX).collect();
        }
    }
    if let Some(strategy) = selection.anonymous {
        let alone = of_kind(profile, &[("anonymous_id".into(), strategy)]);
        found.extend(alone.into_iter().map(|pair| vec![pair]));
    }
    found.truncate(COMBINATIONS_MAX);
    found
}

/// The ids of these types that are taken, in the profile's order.
fn of_kind(profile: &Profile, kind: &[(Arc<str>, Strategy)]) -> Combination {
    let mut ids: Vec<(Arc<str>, Box<str>, i64)> = Vec::new();
    // A profile may hold thousands; an id that a merge brought in twice keeps its first place.
    let mut met: Met<(&str, &str)> = Met::default();
    for known in &profile.external_ids {
        if kind.iter().any(|(type_, _)| *type_ == known.type_) && met.insert((&known.type_, &known.id)) {
            ids.push((known.type_.clone(), known.id.clone(), known.first_seen));
        }
    }
    for (type_, strategy) in kind {
        let mut times: Vec<(i64, usize)> =
            ids.iter().enumerate().filter(|(_, id)| id.0 == *type_).map(|(place, id)| (id.2, place)).collect();
        // By the time it was added; of equal times, the profile's own order decides.
        times.sort_unstable();
        let kept = match strategy {
            Strategy::All => continue,
            Strategy::First => times.first(),
            Strategy::Last => times.last(),
        }
        .map(|(_, place)| *place);
        let mut place = 0;
        ids.retain(|id| {
            let keep = id.0 != *type_ || Some(place) == kept;
            place += 1;
            keep
        });
    }
    ids.into_iter().map(|(type_, id, _)| (type_, id)).collect()
}
