//! A topology version, ready to decide with: what to fold for each event, what to evaluate, whom to tell.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::nodes::{flag_at, kind_of, list_at, number_at, some_at, text_at, Condition, Kind, Node, Reader, Scalar};
use super::profile::Names;
use crate::text::{Duration, Instant};
use crate::value::{Json, Odd, Value};

/// A trait or an audience.
pub struct Computation {
    pub key: Arc<str>,
    pub is_audience: bool,
    pub include_anonymous: bool,
    pub body: Node,
    /// Places in `Plan::aggregations`.
    pub aggregations: Vec<usize>,
    /// Place among the declared ones of its class, in whose order changes are told.
    pub declared: usize,
}

/// What is folded of an event.
pub struct ValueOf {
    pub of: Scalar,
    pub many: bool,
    pub convert: Convert,
    pub kind: Kind,
}

/// Into which form a value is brought before it is folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Convert {
    AsIs,
    Canonical,
    Number,
    NumberText,
    Text,
    Measure,
}

/// One distinct reduction as folding needs it.
pub struct Aggregation {
    pub key: Arc<str>,
    pub kind: Kind,
    pub is_rows: bool,
    /// As limits are counted by.
    pub name: Box<str>,
    /// Of sessions that are kept as such.
    pub gap: Option<Duration>,
    pub of_session: bool,
    pub horizon: Option<Duration>,
    pub keeps_ids: bool,
    pub since: Option<Instant>,
    pub excluded: Vec<Box<str>>,
    pub arrival: Option<Condition>,
    pub columns: Vec<Scalar>,
    pub value: Option<ValueOf>,
    /// How many candidates the core looks through; None: any number.
    pub rows_max: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    All,
    First,
    Last,
}

/// Which ids of a profile are combined, and how.
pub struct Selection {
    /// The same for those that are alike.
    pub number: usize,
    pub product: bool,
    pub kinds: Vec<Vec<(Arc<str>, Strategy)>>,
    pub anonymous: Option<Strategy>,
}

/// A destination as an audience or trait reaches it.
pub struct Connection {
    pub destination: Arc<str>,
    /// `destinations/<name>`.
    pub topic: Arc<str>,
    pub identify: bool,
    pub track: bool,
    pub enter_event: Box<str>,
    pub exit_event: Box<str>,
    pub compute_event: Box<str>,
    /// Types that a field of their own is given.
    pub fields: Vec<(Arc<str>, Box<str>)>,
    pub entries: Selection,
    pub exits: Option<Selection>,
    pub enrichment: Vec<Scalar>,
    pub enrichment_keys: Vec<Arc<str>>,
}

/// An audience or trait and the destinations that hear of it.
pub struct Route {
    pub key: Arc<str>,
    /// `aud_…` or `tra_…`.
    pub id: Box<str>,
    pub connections: Vec<Connection>,
}

pub struct Plan {
    pub space: Box<str>,
    pub retained_events: usize,
    pub order: Vec<Computation>,
    pub aggregations: Vec<Aggregation>,
    pub by_event: FxHashMap<Box<str>, Vec<usize>>,
    pub touched_by_event: FxHashMap<Box<str>, Vec<usize>>,
    pub touched_by_custom: FxHashMap<Box<str>, Vec<usize>>,
    pub touched_by_identity: Vec<usize>,
    pub touched_by_time: FxHashMap<Box<str>, Vec<usize>>,
    pub audience_routes: Vec<Route>,
    pub trait_routes: Vec<Route>,
    /// Aggregations whose candidates the core looks through only while they are few.
    pub bounded: Vec<usize>,
}

/// Where tests are made of each candidate anew, Python's way, which keeps what it found out, is the better one beyond that.
const TESTED_ROWS_MAX: usize = 128;
/// The same where each candidate is only added up.
const REDUCED_ROWS_MAX: usize = 512;

impl Plan {
    /// From the JSON of `stages/native_plan.py`; Odd where it says something that the core does not know.
    pub fn read(raw: &[u8], names: &mut Names) -> Result<Plan, Odd> {
        let plain = Json::of_plan(raw).value()?;
        let plain = &plain;
        let mut reader = Reader { names };
        let aggregations = list_at(plain, "aggregations")?
            .iter()
            .map(|one| aggregation(one, &mut reader))
            .collect::<Result<Vec<_>, Odd>>()?;
        let places: FxHashMap<Arc<str>, usize> =
            aggregations.iter().enumerate().map(|(place, one)| (one.key.clone(), place)).collect();
        let declared =
            |list: &str, key: &str| list_at(plain, list)?.iter().position(|one| one.as_text() == Some(key)).ok_or(Odd);
        let keys = |found: &[Value]| {
            found
                .iter()
                .map(|key| key.as_text().and_then(|key| places.get(key)).copied().ok_or(Odd))
                .collect::<Result<Vec<_>, Odd>>()
        };
        let mut order = Vec::new();
        for one in list_at(plain, "order")? {
            let key = text_at(one, "key")?;
            let is_audience = flag_at(one, "is_audience")?;
            order.push(Computation {
                key: reader.names.shared(key),
                is_audience,
                include_anonymous: flag_at(one, "include_anonymous")?,
                body: reader.node(one.get("body").ok_or(Odd)?)?,
                aggregations: keys(list_at(one, "aggregations")?)?,
                declared: declared(if is_audience { "audience_keys" } else { "trait_keys" }, key)?,
            });
        }
        let mut by_event = FxHashMap::default();
        for (event, found) in pairs(plain.get("by_event").ok_or(Odd)?)? {
            by_event.insert(event.clone(), keys(found.as_array().ok_or(Odd)?)?);
        }
        let mut selections = Vec::new();
        let mut plan = Plan {
            space: text_at(plain, "space")?.into(),
            retained_events: number_at(plain, "retained_events")?.and_then(|it| usize::try_from(it).ok()).ok_or(Odd)?,
            order,
            aggregations,
            by_event,
            touched_by_event: touched(plain.get("touched_by_event").ok_or(Odd)?)?,
            touched_by_custom: touched(plain.get("touched_by_custom").ok_or(Odd)?)?,
            touched_by_identity: numbers(list_at(plain, "touched_by_identity")?)?,
            touched_by_time: touched(plain.get("touched_by_time").ok_or(Odd)?)?,
            audience_routes: routes(list_at(plain, "audience_routes")?, &mut reader, &mut selections)?,
            trait_routes: routes(list_at(plain, "trait_routes")?, &mut reader, &mut selections)?,
            bounded: Vec::new(),
        };
        plan.bound_rows(&places);
        Ok(plan)
    }

    /// Note which candidates are looked through, and up to how many.
    fn bound_rows(&mut self, places: &FxHashMap<Arc<str>, usize>) {
        let mut limits: Vec<(usize, usize)> = Vec::new();
        for computation in &self.order {
            match &computation.body {
                Node::Scalar(scalar) => bound_scalar(scalar, false, places, &mut limits),
                Node::Condition(condition) => bound_condition(condition, false, places, &mut limits),
            }
        }
        for (place, limit) in limits {
            let held = &mut self.aggregations[place].rows_max;
            *held = Some(held.map_or(limit, |held| held.min(limit)));
        }
        self.bounded =
            (0..self.aggregations.len()).filter(|place| self.aggregations[*place].rows_max.is_some()).collect();
    }
}

fn bound_condition(
    condition: &Condition,
    nested: bool,
    places: &FxHashMap<Arc<str>, usize>,
    limits: &mut Vec<(usize, usize)>,
) {
    let mut scalar = |scalar: &Scalar| bound_scalar(scalar, nested, places, limits);
    match condition {
        Condition::Not(inner) => bound_condition(inner, nested, places, limits),
        Condition::And(of) | Condition::Or(of) => {
            for inner in of {
                bound_condition(inner, nested, places, limits);
            }
        }
        Condition::Comparison(left, _, right) => {
            scalar(left);
            scalar(right);
        }
        Condition::Text(left, _, options) | Condition::Membership { left, options, .. } => {
            scalar(left);
            options.iter().for_each(scalar);
        }
        Condition::Date { left, .. }
        | Condition::Span { left, .. }
        | Condition::Exists { left, .. }
        | Condition::Holds(left) => scalar(left),
    }
}

fn bound_scalar(scalar: &Scalar, nested: bool, places: &FxHashMap<Arc<str>, usize>, limits: &mut Vec<(usize, usize)>) {
    let Scalar::Reduction(reduction) = scalar else { return };
    if !reduction.is_rows {
        return;
    }
    let cheap = matches!(reduction.kind, Kind::Count | Kind::First | Kind::Last);
    if let Some(place) = places.get(&reduction.state) {
        if nested || reduction.later.is_some() {
            limits.push((*place, TESTED_ROWS_MAX));
        } else if !cheap {
            limits.push((*place, REDUCED_ROWS_MAX));
        }
    }
    if let Some(later) = &reduction.later {
        bound_condition(later, true, places, limits);
    }
}

fn pairs(plain: &Value) -> Result<&[(Box<str>, Value)], Odd> {
    match plain {
        Value::Object(pairs) => Ok(pairs),
        _ => Err(Odd),
    }
}

fn numbers(values: &[Value]) -> Result<Vec<usize>, Odd> {
    values.iter().map(|value| value.as_int().and_then(|number| usize::try_from(number).ok()).ok_or(Odd)).collect()
}

fn touched(plain: &Value) -> Result<FxHashMap<Box<str>, Vec<usize>>, Odd> {
    pairs(plain)?.iter().map(|(key, found)| Ok((key.clone(), numbers(found.as_array().ok_or(Odd)?)?))).collect()
}

fn aggregation(plain: &Value, reader: &mut Reader<'_>) -> Result<Aggregation, Odd> {
    Ok(Aggregation {
        key: reader.names.shared(text_at(plain, "key")?),
        kind: kind_of(text_at(plain, "kind")?)?,
        is_rows: flag_at(plain, "is_rows")?,
        name: text_at(plain, "name")?.into(),
        gap: number_at(plain, "gap")?,
        of_session: flag_at(plain, "of_session")?,
        horizon: number_at(plain, "horizon")?,
        keeps_ids: flag_at(plain, "keeps_ids")?,
        since: number_at(plain, "since")?,
        excluded: list_at(plain, "excluded")?
            .iter()
            .map(|name| name.as_text().map(Box::from).ok_or(Odd))
            .collect::<Result<_, Odd>>()?,
        arrival: some_at(plain, "arrival")?.map(|arrival| reader.condition(arrival)).transpose()?,
        columns: list_at(plain, "columns")?.iter().map(|column| reader.scalar(column)).collect::<Result<_, Odd>>()?,
        value: some_at(plain, "value")?.map(|value| value_of(value, reader)).transpose()?,
        rows_max: None,
    })
}

fn value_of(plain: &Value, reader: &mut Reader<'_>) -> Result<ValueOf, Odd> {
    let reducer = text_at(plain, "reducer")?;
    let type_ = some_at(plain, "type")?.and_then(Value::as_text);
    let convert = match (reducer, type_) {
        ("first" | "last" | "unique", _) => Convert::AsIs,
        (_, Some("array")) => Convert::Canonical,
        ("mode", Some("number")) => Convert::NumberText,
        (_, Some("number")) => Convert::Number,
        ("mode", _) | (_, Some("string")) => Convert::Text,
        _ => Convert::Measure,
    };
    Ok(ValueOf {
        of: reader.scalar(plain.get("of").ok_or(Odd)?)?,
        many: flag_at(plain, "many")?,
        convert,
        kind: match (reducer, type_) {
            ("min" | "max", Some("string")) => Kind::MinText,
            _ => kind_of(reducer)?,
        },
    })
}

fn routes(plain: &[Value], reader: &mut Reader<'_>, selections: &mut Vec<Vec<u8>>) -> Result<Vec<Route>, Odd> {
    plain
        .iter()
        .map(|route| {
            Ok(Route {
                key: reader.names.shared(text_at(route, "key")?),
                id: text_at(route, "id")?.into(),
                connections: list_at(route, "connections")?
                    .iter()
                    .map(|one| connection(one, reader, selections))
                    .collect::<Result<_, Odd>>()?,
            })
        })
        .collect()
}

fn connection(plain: &Value, reader: &mut Reader<'_>, selections: &mut Vec<Vec<u8>>) -> Result<Connection, Odd> {
    let name = text_at(plain, "destination")?;
    let sends = |call: &str| Ok(list_at(plain, "send")?.iter().any(|sent| sent.as_text() == Some(call)));
    let mut enrichment = Vec::new();
    let mut enrichment_keys = Vec::new();
    for one in list_at(plain, "enrichment")? {
        let [key, class] = one.as_array().ok_or(Odd)? else { return Err(Odd) };
        let key = reader.names.shared(key.as_text().ok_or(Odd)?);
        let of = Value::Object(vec![
            ("node".into(), Value::Text("trait".into())),
            ("class".into(), class.clone()),
            ("key".into(), Value::Text((&*key).into())),
            ("path".into(), Value::Array(Vec::new())),
        ]);
        enrichment.push(reader.scalar(&of)?);
        enrichment_keys.push(key);
    }
    Ok(Connection {
        topic: reader.names.shared(&format!("destinations/{name}")),
        destination: reader.names.shared(name),
        identify: sends("identify")?,
        track: sends("track")?,
        enter_event: text_at(plain, "enter_event")?.into(),
        exit_event: text_at(plain, "exit_event")?.into(),
        compute_event: text_at(plain, "compute_event")?.into(),
        fields: pairs(plain.get("fields").ok_or(Odd)?)?
            .iter()
            .map(|(type_, field)| Ok((reader.names.shared(type_), field.as_text().ok_or(Odd)?.into())))
            .collect::<Result<_, Odd>>()?,
        entries: selection(plain.get("entries").ok_or(Odd)?, reader, selections)?,
        exits: some_at(plain, "exits")?.map(|exits| selection(exits, reader, selections)).transpose()?,
        enrichment,
        enrichment_keys,
    })
}

fn selection(plain: &Value, reader: &mut Reader<'_>, selections: &mut Vec<Vec<u8>>) -> Result<Selection, Odd> {
    let text = plain.canonical();
    let number = selections.iter().position(|known| *known == text).unwrap_or(selections.len());
    if number == selections.len() {
        selections.push(text);
    }
    let strategy = |value: &Value| match value.as_text() {
        Some("all") => Ok(Strategy::All),
        Some("first") => Ok(Strategy::First),
        Some("last") => Ok(Strategy::Last),
        _ => Err(Odd),
    };
    let mut kinds = Vec::new();
    for kind in list_at(plain, "kinds")? {
        let mut choices = Vec::new();
        for choice in kind.as_array().ok_or(Odd)? {
            let [type_, chosen] = choice.as_array().ok_or(Odd)? else { return Err(Odd) };
            choices.push((reader.names.shared(type_.as_text().ok_or(Odd)?), strategy(chosen)?));
        }
        kinds.push(choices);
    }
    Ok(Selection {
        number,
        product: flag_at(plain, "product")?,
        kinds,
        anonymous: some_at(plain, "anonymous")?.map(strategy).transpose()?,
    })
}
