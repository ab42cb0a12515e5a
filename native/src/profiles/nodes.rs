//! Definitions as the core walks them, read from the plan that `stages/native_plan.py` writes.

use std::sync::Arc;

use super::profile::Names;
use crate::text::{Duration, Instant};
use crate::value::{Odd, Value};

/// Keys from the outside in; `$` stands for each element of an array.
#[derive(Debug, Clone)]
pub struct Path {
    pub keys: Box<[Box<str>]>,
    pub has_element: bool,
}

/// Which of a profile's dicts a trait is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Audience,
    Computed,
    Custom,
}

#[derive(Debug)]
pub enum Scalar {
    Literal(Value),
    Trait {
        class: Class,
        key: Arc<str>,
        path: Path,
    },
    /// Of the event that has just come; a page's name is found under `also`, too.
    Property {
        path: Path,
        also: Option<Box<str>>,
    },
    Context(Path),
    /// Of the candidate in hand.
    Column {
        place: usize,
        has_element: bool,
    },
    /// Of the candidate around it.
    ParentColumn {
        place: usize,
        has_element: bool,
    },
    Reduction(Box<Reduction>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Equal,
    Differs,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextOperator {
    Contains,
    Omits,
    StartsWith,
    EndsWith,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanOperator {
    WithinLast,
    WithinNext,
    BeforeLast,
    AfterNext,
}

#[derive(Debug)]
pub enum Condition {
    Not(Box<Condition>),
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Comparison(Scalar, Operator, Scalar),
    Text(Scalar, TextOperator, Vec<Scalar>),
    Membership { left: Scalar, options: Vec<Scalar>, negated: bool },
    Date { left: Scalar, before: bool, instant: Instant },
    Span { left: Scalar, operator: SpanOperator, span: Duration },
    Exists { left: Scalar, negated: bool },
    Holds(Scalar),
}

#[derive(Debug)]
pub enum Node {
    Scalar(Scalar),
    Condition(Condition),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    MinText,
    MaxText,
    First,
    Last,
    Mode,
    Unique,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Event times in (now - far, now - near].
    Span {
        near: Duration,
        far: Duration,
    },
    Session {
        gap: Duration,
    },
}

#[derive(Debug)]
pub struct Reduction {
    /// Key of what is kept of it.
    pub state: Arc<str>,
    pub is_rows: bool,
    pub kind: Kind,
    pub window: Option<Window>,
    pub within_parent: Option<Duration>,
    pub reach: Option<Duration>,
    pub minimum: i64,
    pub as_json: bool,
    pub counted: bool,
    /// Does it reduce a property?
    pub has_value: bool,
    /// Is the value of a row an array of values to be reduced one by one?
    pub many: bool,
    pub later: Option<Condition>,
}

/// Reads the plan's nodes; Odd where the plan is not what it should be.
pub struct Reader<'a> {
    pub names: &'a mut Names,
}

pub fn text_at<'v>(plain: &'v Value, key: &str) -> Result<&'v str, Odd> {
    plain.get(key).and_then(Value::as_text).ok_or(Odd)
}

pub fn flag_at(plain: &Value, key: &str) -> Result<bool, Odd> {
    match plain.get(key) {
        Some(Value::Bool(flag)) => Ok(*flag),
        _ => Err(Odd),
    }
}

pub fn list_at<'v>(plain: &'v Value, key: &str) -> Result<&'v [Value], Odd> {
    plain.get(key).and_then(Value::as_array).ok_or(Odd)
}

/// A whole number, or None for null.
pub fn number_at(plain: &Value, key: &str) -> Result<Option<i64>, Odd> {
    match plain.get(key) {
        Some(Value::Int(number)) => Ok(Some(*number)),
        Some(Value::Null) => Ok(None),
        _ => Err(Odd),
    }
}

/// What is there, or None for null.
pub fn some_at<'v>(plain: &'v Value, key: &str) -> Result<Option<&'v Value>, Odd> {
    plain.get(key).map(|value| (!value.is_null()).then_some(value)).ok_or(Odd)
}

pub fn kind_of(name: &str) -> Result<Kind, Odd> {
    Ok(match name {
        "count" => Kind::Count,
        "sum" => Kind::Sum,
        "avg" => Kind::Avg,
        "min" => Kind::Min,
        "max" => Kind::Max,
        "min_text" => Kind::MinText,
        "max_text" => Kind::MaxText,
        "first" => Kind::First,
        "last" => Kind::Last,
        "mode" => Kind::Mode,
        "unique" => Kind::Unique,
        _ => return Err(Odd),
    })
}

fn path_of(plain: &Value) -> Result<Path, Odd> {
    let keys = list_at(plain, "path")?
        .iter()
        .map(|key| key.as_text().map(Box::from).ok_or(Odd))
        .collect::<Result<Box<[Box<str>]>, Odd>>()?;
    let has_element = keys.iter().any(|key| &**key == "$");
    Ok(Path { keys, has_element })
}

fn place_of(plain: &Value) -> Result<usize, Odd> {
    number_at(plain, "place")?.and_then(|place| usize::try_from(place).ok()).ok_or(Odd)
}

impl Reader<'_> {
    /// A value or a condition.
    pub fn node(&mut self, plain: &Value) -> Result<Node, Odd> {
        match text_at(plain, "node")? {
            "literal" | "trait" | "property" | "context" | "column" | "parent_column" | "reduction" => {
                self.scalar(plain).map(Node::Scalar)
            }
            _ => self.condition(plain).map(Node::Condition),
        }
    }

    pub fn scalar(&mut self, plain: &Value) -> Result<Scalar, Odd> {
        Ok(match text_at(plain, "node")? {
            "literal" => Scalar::Literal(plain.get("value").ok_or(Odd)?.clone()),
            "trait" => Scalar::Trait {
                class: match text_at(plain, "class")? {
                    "audience" => Class::Audience,
                    "computed" => Class::Computed,
                    "custom" => Class::Custom,
                    _ => return Err(Odd),
                },
                key: self.names.shared(text_at(plain, "key")?),
                path: path_of(plain)?,
            },
            "property" => Scalar::Property {
                path: path_of(plain)?,
                also: some_at(plain, "also")?.and_then(Value::as_text).map(Box::from),
            },
            "context" => Scalar::Context(path_of(plain)?),
            "column" => Scalar::Column { place: place_of(plain)?, has_element: path_of(plain)?.has_element },
            "parent_column" => {
                Scalar::ParentColumn { place: place_of(plain)?, has_element: path_of(plain)?.has_element }
            }
            "reduction" => Scalar::Reduction(Box::new(self.reduction(plain)?)),
            _ => return Err(Odd),
        })
    }

    fn reduction(&mut self, plain: &Value) -> Result<Reduction, Odd> {
        let window = match some_at(plain, "window")? {
            None => None,
            Some(window) => {
                let far = number_at(window, "far")?.ok_or(Odd)?;
                Some(match text_at(window, "node")? {
                    "session" => Window::Session { gap: far },
                    _ => Window::Span { near: number_at(window, "near")?.ok_or(Odd)?, far },
                })
            }
        };
        Ok(Reduction {
            state: self.names.shared(text_at(plain, "state")?),
            is_rows: flag_at(plain, "is_rows")?,
            kind: kind_of(text_at(plain, "kind")?)?,
            window,
            within_parent: number_at(plain, "within_parent")?,
            reach: number_at(plain, "reach")?,
            minimum: number_at(plain, "minimum")?.unwrap_or(1),
            as_json: flag_at(plain, "as_json")?,
            counted: flag_at(plain, "counted")?,
            has_value: flag_at(plain, "has_value")?,
            many: flag_at(plain, "many")?,
            later: some_at(plain, "later")?.map(|later| self.condition(later)).transpose()?,
        })
    }

    pub fn condition(&mut self, plain: &Value) -> Result<Condition, Odd> {
        let node = text_at(plain, "node")?;
        if matches!(node, "not" | "and" | "or") {
            let mut of =
                list_at(plain, "of")?.iter().map(|inner| self.condition(inner)).collect::<Result<Vec<_>, Odd>>()?;
            return Ok(match node {
                "not" => Condition::Not(Box::new(of.pop().ok_or(Odd)?)),
                "and" => Condition::And(of),
                _ => Condition::Or(of),
            });
        }
        let mut scalars =
            list_at(plain, "scalars")?.iter().map(|scalar| self.scalar(scalar)).collect::<Result<Vec<_>, Odd>>()?;
        if scalars.is_empty() {
            return Err(Odd);
        }
        let left = scalars.remove(0);
        Ok(match node {
            "comparison" => {
                let operator = match text_at(plain, "operator")? {
                    "=" => Operator::Equal,
                    "!=" => Operator::Differs,
                    "<" => Operator::Less,
                    "<=" => Operator::LessOrEqual,
                    ">" => Operator::Greater,
                    ">=" => Operator::GreaterOrEqual,
                    _ => return Err(Odd),
                };
                Condition::Comparison(left, operator, scalars.pop().ok_or(Odd)?)
            }
            "text" => {
                let operator = match text_at(plain, "operator")? {
                    "contains" => TextOperator::Contains,
                    "omits" => TextOperator::Omits,
                    "starts_with" => TextOperator::StartsWith,
                    "ends_with" => TextOperator::EndsWith,
                    _ => return Err(Odd),
                };
                Condition::Text(left, operator, scalars)
            }
            "membership" => Condition::Membership { left, options: scalars, negated: flag_at(plain, "negated")? },
            "date" => Condition::Date {
                left,
                before: text_at(plain, "operator")? == "before_date",
                instant: number_at(plain, "instant")?.ok_or(Odd)?,
            },
            "span" => {
                let operator = match text_at(plain, "operator")? {
                    "within_last" => SpanOperator::WithinLast,
                    "within_next" => SpanOperator::WithinNext,
                    "before_last" => SpanOperator::BeforeLast,
                    "after_next" => SpanOperator::AfterNext,
                    _ => return Err(Odd),
                };
                Condition::Span { left, operator, span: number_at(plain, "span")?.ok_or(Odd)? }
            }
            "exists" => Condition::Exists { left, negated: flag_at(plain, "negated")? },
            "holds" => Condition::Holds(left),
            _ => return Err(Odd),
        })
    }
}
