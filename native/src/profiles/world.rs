//! Values and conditions read from what is at hand: the event that has just come, or a profile with its candidates.

use std::borrow::Cow;
use std::cell::Cell;

use super::dates::date_of;
use super::event::Opened;
use super::kinds::{read as read_state, reduce, rows_of, time_of};
use super::nodes::{Class, Condition, Kind, Operator, Path, Reduction, Scalar, SpanOperator, TextOperator, Window};
use super::numbers::{equal, less, text_of};
use super::profile::Profile;
use crate::text::{Duration, Instant};
use crate::value::Value;

/// An instant after all others.
pub const NEVER: Instant = i64::MAX;

/// What a value's reader finds.
pub enum Found<'a> {
    None,
    One(Cow<'a, Value>),
    /// A test of them is a test of each.
    Many(Vec<Cow<'a, Value>>),
}

impl<'a> Found<'a> {
    fn of(value: Option<&'a Value>) -> Found<'a> {
        match value {
            None | Some(Value::Null) => Found::None,
            Some(value) => Found::One(Cow::Borrowed(value)),
        }
    }

    fn made(value: Option<Value>) -> Found<'a> {
        match value {
            None | Some(Value::Null) => Found::None,
            Some(value) => Found::One(Cow::Owned(value)),
        }
    }

    /// Is there any value?
    pub fn is_any(&self) -> bool {
        !self.each().is_empty()
    }

    /// Each of the values.
    pub fn each(&self) -> &[Cow<'a, Value>] {
        match self {
            Found::None => &[],
            Found::One(one) => std::slice::from_ref(one),
            Found::Many(many) => many,
        }
    }

    /// One value; several are an array.
    pub fn into_value(self) -> Option<Value> {
        match self {
            Found::None => None,
            Found::One(one) => Some(one.into_owned()),
            Found::Many(many) => Some(Value::Array(many.into_iter().map(Cow::into_owned).collect())),
        }
    }
}

/// A profile while it is evaluated.
pub struct Scope<'a> {
    pub profile: &'a Profile,
    pub now: Instant,
    /// The earliest instant at which the computation in hand may come to another result by time alone.
    pub due: Cell<Instant>,
}

impl Scope<'_> {
    fn lower(&self, instant: Instant) {
        self.due.set(self.due.get().min(instant));
    }
}

/// What values are read from.
#[derive(Clone, Copy)]
pub enum World<'a> {
    /// The event that has just come.
    Event(&'a Opened<'a>),
    /// All that is known of a profile.
    Profile(&'a Scope<'a>),
    /// One of a profile's candidates, and the one around it in a funnel.
    Row { scope: &'a Scope<'a>, row: &'a Value, parent: Option<&'a Value> },
}

/// What stands at a path inside nested objects.
pub fn lookup<'a>(value: &'a Value, keys: &[Box<str>]) -> Option<&'a Value> {
    keys.iter().try_fold(value, |inside, key| inside.get(key)).filter(|found| !found.is_null())
}

/// The same, with each element of an array where the path says `$`.
pub fn lookup_each<'a>(value: &'a Value, keys: &[Box<str>]) -> Vec<Cow<'a, Value>> {
    let mut found = vec![value];
    for key in keys {
        found = if &**key == "$" {
            found.into_iter().filter_map(Value::as_array).flatten().collect()
        } else {
            found.into_iter().filter_map(|inside| inside.get(key)).collect()
        };
    }
    found.into_iter().filter(|one| !one.is_null()).map(Cow::Borrowed).collect()
}

fn at_path<'a>(value: &'a Value, path: &Path) -> Found<'a> {
    if path.has_element {
        Found::Many(lookup_each(value, &path.keys))
    } else {
        Found::of(lookup(value, &path.keys))
    }
}

fn column<'a>(row: &'a Value, place: usize, has_element: bool) -> Found<'a> {
    let value = row.as_array().and_then(|parts| parts.get(place));
    match value {
        Some(Value::Array(each)) if has_element => Found::Many(each.iter().map(Cow::Borrowed).collect()),
        _ => Found::of(value),
    }
}

/// A value; None where there is none.
pub fn read<'a>(scalar: &'a Scalar, world: World<'a>) -> Found<'a> {
    match (scalar, world) {
        (Scalar::Literal(value), _) => Found::One(Cow::Borrowed(value)),
        (Scalar::Property { path, also }, World::Event(event)) => match also {
            Some(also) => Found::of(lookup(&event.properties, &path.keys).or_else(|| event.properties.get(also))),
            None => at_path(&event.properties, path),
        },
        (Scalar::Context(path), World::Event(event)) => at_path(&event.context, path),
        (Scalar::Trait { class, key, path }, World::Profile(scope) | World::Row { scope, .. }) => {
            trait_of(scope.profile, *class, key, path)
        }
        (Scalar::Column { place, has_element }, World::Row { row, .. }) => column(row, *place, *has_element),
        (Scalar::ParentColumn { place, has_element }, World::Row { parent: Some(parent), .. }) => {
            column(parent, *place, *has_element)
        }
        (Scalar::Reduction(reduction), World::Profile(scope)) => Found::made(reduced(reduction, scope)),
        (Scalar::Reduction(reduction), World::Row { scope, row, .. }) => {
            Found::made(reduced_after(reduction, scope, row))
        }
        _ => Found::None,
    }
}

fn trait_of<'a>(profile: &'a Profile, class: Class, key: &str, path: &Path) -> Found<'a> {
    let value = match class {
        Class::Audience => {
            let member = profile.memberships.get(key).copied().unwrap_or(false);
            return if path.keys.is_empty() {
                Found::One(Cow::Owned(Value::Bool(member)))
            } else if path.has_element {
                Found::Many(Vec::new())
            } else {
                Found::None
            };
        }
        Class::Computed => profile.computed.get(key),
        Class::Custom => profile.custom.get(key).map(|held| &held.value),
    };
    match value {
        // `lookup_each` of a missing value is no value of several, and of a custom trait that was never there: none.
        None if path.has_element && class == Class::Computed => Found::Many(Vec::new()),
        None => Found::None,
        Some(value) => at_path(value, path),
    }
}

/// A value inside a condition: there a count of nothing is 0.
fn operand<'a>(scalar: &'a Scalar, world: World<'a>) -> Found<'a> {
    let found = read(scalar, world);
    match (&found, scalar) {
        (Found::None, Scalar::Reduction(reduction)) if reduction.kind == Kind::Count || reduction.counted => {
            Found::One(Cow::Owned(Value::Int(0)))
        }
        _ => found,
    }
}

/// Does the condition hold?
pub fn holds(condition: &Condition, world: World<'_>) -> bool {
    match condition {
        Condition::Not(inner) => !holds(inner, world),
        Condition::And(of) => of.iter().all(|inner| holds(inner, world)),
        Condition::Or(of) => of.iter().any(|inner| holds(inner, world)),
        Condition::Comparison(left, operator, right) => {
            let left = operand(left, world);
            if left.each().is_empty() {
                return false;
            }
            let right = operand(right, world);
            left.each().iter().any(|one| right.each().iter().any(|other| compare(*operator, one, other)))
        }
        Condition::Text(left, operator, options) => text_test(left, *operator, options, world),
        Condition::Membership { left, options, negated } => {
            let allowed: Vec<Found<'_>> = options.iter().map(|option| operand(option, world)).collect();
            let is_allowed =
                |value: &Value| allowed.iter().flat_map(|found| found.each()).any(|option| is_one_of(value, option));
            of_each(&operand(left, world), |value| value.is_some_and(is_allowed) != *negated)
        }
        Condition::Date { left, before, instant } => of_each(&operand(left, world), |value| {
            value.and_then(date_in).is_some_and(|date| if *before { date < *instant } else { date > *instant })
        }),
        Condition::Exists { left, negated } => of_each(&operand(left, world), |value| value.is_none() == *negated),
        Condition::Holds(left) => of_each(&operand(left, world), |value| matches!(value, Some(Value::Bool(true)))),
        Condition::Span { left, operator, span } => span_test(left, *operator, *span, world),
    }
}

fn of_each(found: &Found<'_>, test: impl Fn(Option<&Value>) -> bool) -> bool {
    if found.each().is_empty() {
        test(None)
    } else {
        found.each().iter().any(|one| test(Some(one)))
    }
}

fn compare(operator: Operator, one: &Value, other: &Value) -> bool {
    match operator {
        Operator::Equal => equal(one, other),
        Operator::Differs => !equal(one, other),
        Operator::Less => less(one, other),
        Operator::LessOrEqual => !less(other, one),
        Operator::Greater => less(other, one),
        Operator::GreaterOrEqual => !less(one, other),
    }
}

fn text_test(left: &Scalar, operator: TextOperator, options: &[Scalar], world: World<'_>) -> bool {
    let parts: Vec<String> = options
        .iter()
        .flat_map(|option| operand(option, world).each().iter().map(|part| text_of(part)).collect::<Vec<_>>())
        .collect();
    let omits = operator == TextOperator::Omits;
    of_each(&operand(left, world), |value| {
        let Some(value) = value else { return omits };
        let whole = text_of(value);
        let found = parts.iter().any(|part| match operator {
            TextOperator::Contains | TextOperator::Omits => whole.contains(part.as_str()),
            TextOperator::StartsWith => whole.starts_with(part.as_str()),
            TextOperator::EndsWith => whole.ends_with(part.as_str()),
        });
        found != omits
    })
}

/// An array is one of them when one of its elements is.
fn is_one_of(value: &Value, option: &Value) -> bool {
    equal(value, option)
        || value.as_array().is_some_and(|each| each.iter().any(|one| !one.is_null() && equal(one, option)))
}

fn date_in(value: &Value) -> Option<Instant> {
    value.as_text().and_then(date_of)
}

/// A date compared with now; takes down when the answer changes.
fn span_test(left: &Scalar, operator: SpanOperator, span: Duration, world: World<'_>) -> bool {
    let (World::Profile(scope) | World::Row { scope, .. }) = world else { return false };
    let now = scope.now;
    let mut found = false;
    for value in operand(left, world).each() {
        let Some(date) = date_in(value) else { continue };
        let (answer, changes) = match operator {
            SpanOperator::WithinLast if date > now => (false, Some(date)),
            SpanOperator::WithinLast if date + span >= now => (true, Some(date + span + 1)),
            SpanOperator::WithinLast => (false, None),
            SpanOperator::WithinNext if date < now => (false, None),
            SpanOperator::WithinNext if date - span <= now => (true, Some(date + 1)),
            SpanOperator::WithinNext => (false, Some(date - span)),
            SpanOperator::BeforeLast if date + span <= now => (true, None),
            SpanOperator::BeforeLast => (false, Some(date + span)),
            SpanOperator::AfterNext if date - span >= now => (true, Some(date - span + 1)),
            SpanOperator::AfterNext => (false, None),
        };
        found |= answer;
        if let Some(changes) = changes {
            scope.lower(changes);
        }
    }
    found
}

/// The value when every event has left the window: 0 of a count, an empty list, else none.
fn nothing(reduction: &Reduction) -> Option<Value> {
    match reduction.kind {
        Kind::Count => Some(Value::Int(0)),
        Kind::Unique if reduction.counted => Some(Value::Int(0)),
        Kind::Unique => Some(Value::Array(Vec::new())),
        _ => None,
    }
}

/// A reduction at the top of a definition.
fn reduced(reduction: &Reduction, scope: &Scope<'_>) -> Option<Value> {
    let state = scope.profile.states.get(&*reduction.state)?;
    if !reduction.is_rows {
        return match reduction.window {
            Some(Window::Session { gap }) => latest_session(reduction, gap, state, scope),
            _ => read_state(reduction, state),
        };
    }
    let near = match reduction.window {
        Some(Window::Span { near, .. }) => near,
        _ => 0,
    };
    let seen = state.as_array().and_then(|parts| parts.first()).and_then(Value::as_int)?;
    let rows = match reduction.reach {
        None => rows_of(state),
        Some(reach) => in_window(rows_of(state), reach, near, scope),
    };
    let passes = |row: &&Value| {
        reduction.later.as_ref().is_none_or(|later| holds(later, World::Row { scope, row, parent: None }))
    };
    let chosen = if let Some(Window::Session { gap }) = reduction.window {
        let passing: Vec<&Value> = rows.iter().filter(passes).collect();
        let run = latest_run(&passing, gap, scope);
        let has_value = |row: &&&Value| !row.as_array().and_then(|parts| parts.last()).is_none_or(Value::is_null);
        if reduction.has_value {
            run.iter().filter(has_value).copied().collect()
        } else {
            run.to_vec()
        }
    } else if reduction.later.is_none() && reduction.kind == Kind::Count {
        // The one that is asked for most needs no list.
        if !rows.is_empty() {
            return Some(Value::Int(rows.len() as i64));
        }
        Vec::new()
    } else {
        rows.iter().filter(passes).collect()
    };
    if !chosen.is_empty() {
        return reduce(reduction, &chosen);
    }
    if seen + near <= scope.now {
        nothing(reduction)
    } else {
        None
    }
}

fn latest_session(reduction: &Reduction, gap: Duration, state: &Value, scope: &Scope<'_>) -> Option<Value> {
    let [_, end, inside] = state.as_array()?.last()?.as_array()? else { return None };
    let end = end.as_int()?;
    if end + gap <= scope.now {
        return nothing(reduction);
    }
    scope.lower(end + gap);
    // No value inside is nothing; one that is not frequent enough is none.
    let is_empty = match inside {
        Value::Null | Value::Int(0) => reduction.kind == Kind::Count || inside.is_null(),
        Value::Object(counts) => counts.is_empty(),
        Value::Array(texts) => texts.is_empty(),
        _ => false,
    };
    if is_empty {
        nothing(reduction)
    } else {
        read_state(reduction, inside)
    }
}

/// Which rows have times in (now - far, now - near]; takes down when one of the rows enters or leaves.
fn in_window<'a>(rows: &'a [Value], far: Duration, near: Duration, scope: &Scope<'_>) -> &'a [Value] {
    let start = rows.partition_point(|row| time_of(row) <= scope.now - far);
    let end = if near == 0 {
        rows.len()
    } else {
        start + rows[start..].partition_point(|row| time_of(row) <= scope.now - near)
    };
    if let Some(row) = rows.get(start) {
        scope.lower(time_of(row) + far);
    }
    if let Some(row) = rows.get(end) {
        scope.lower(time_of(row) + near);
    }
    &rows[start..end]
}

/// The latest burst of rows, or none when the gap has passed since its last.
fn latest_run<'r, 'a>(rows: &'r [&'a Value], gap: Duration, scope: &Scope<'_>) -> &'r [&'a Value] {
    let Some(last) = rows.last() else { return &[] };
    let end = time_of(last) + gap;
    if end <= scope.now {
        return &[];
    }
    scope.lower(end);
    let mut start = rows.len() - 1;
    while start > 0 && time_of(rows[start]) - time_of(rows[start - 1]) < gap {
        start -= 1;
    }
    &rows[start..]
}

/// A reduction over the events after the one in hand: a funnel's next step.
fn reduced_after(reduction: &Reduction, scope: &Scope<'_>, parent: &Value) -> Option<Value> {
    let rows = rows_of(scope.profile.states.get(&*reduction.state)?);
    let began = time_of(parent);
    let start = rows.partition_point(|row| time_of(row) <= began);
    let end = match reduction.within_parent {
        None => rows.len(),
        Some(limit) => start + rows[start..].partition_point(|row| time_of(row) < began + limit),
    };
    let mut rows = &rows[start..end];
    if reduction.kind == Kind::Count && reduction.later.is_none() && reduction.window.is_none() {
        return Some(Value::Int(rows.len() as i64));
    }
    if let (Some(Window::Span { near, far }), false) = (reduction.window, rows.is_empty()) {
        rows = in_window(rows, far, near, scope);
    }
    let passes = |row: &&Value| {
        reduction.later.as_ref().is_none_or(|later| holds(later, World::Row { scope, row, parent: Some(parent) }))
    };
    let chosen: Vec<&Value> = rows.iter().filter(passes).collect();
    if chosen.is_empty() {
        nothing(reduction)
    } else {
        reduce(reduction, &chosen)
    }
}
