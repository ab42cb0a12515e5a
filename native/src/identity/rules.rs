//! The identity rules of a topology, as `identity.rules` compiled them: ranks, limits, blocked values, keys to look under.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet, PyTuple};
use std::collections::HashSet;

/// How many values of a type a profile may hold, and in which sliding period (None: ever).
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub count: usize,
    pub period: Option<i64>,
}

/// Values that are never promoted. `ask`: there are patterns, too, for which Python is asked.
#[derive(Default)]
struct Blocked {
    exact: HashSet<String>,
    zeroes_and_dashes: bool,
    ask: bool,
}

/// What the rules say of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Free,
    Blocked,
    /// Patterns decide; ask Python.
    Ask,
}

impl Blocked {
    fn from_python(rules: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Blocked {
            exact: rules.getattr("exact")?.cast::<PyFrozenSet>()?.extract()?,
            zeroes_and_dashes: rules.getattr("zeroes_and_dashes")?.extract()?,
            ask: !rules.getattr("patterns")?.is_empty()?,
        })
    }

    fn verdict(&self, value: &str) -> Verdict {
        if self.zeroes_and_dashes && value.bytes().all(|byte| matches!(byte, b'0' | b'-')) {
            return Verdict::Blocked;
        }
        if !self.exact.is_empty() && self.exact.contains(value) {
            return Verdict::Blocked;
        }
        if self.ask {
            Verdict::Ask
        } else {
            Verdict::Free
        }
    }
}

/// One identifier type, by its place in `Rules::types`.
pub type TypeNumber = u16;

pub struct Type {
    pub name: Box<str>,
    /// 1 is the most trusted. Types that `externalIds` register move those behind them by the same number.
    pub rank: u32,
    blocked: Option<Blocked>,
}

/// A key of an object and the type of the id under it; None: intake holds it to be an id, and nobody uses it.
pub struct Key {
    pub name: Box<[u8]>,
    pub type_: Option<TypeNumber>,
}

/// Everything resolution needs to know of the topology.
pub struct Rules {
    pub space: String,
    pub types: Vec<Type>,
    limits: Vec<(Box<str>, Limit)>,
    limit_default: Limit,
    blocked: Blocked,
    pub property_keys: Vec<Key>,
    pub trait_keys: Vec<Key>,
    pub context_keys: Vec<Key>,
    /// A page's or a screen's name is an id: those are left to Python.
    pub name_is_id: bool,
    pub anonymous_id: Option<TypeNumber>,
    pub user_id: Option<TypeNumber>,
    pub group_id: Option<TypeNumber>,
    /// `id`, `push_token` and `idfa`, of Android and of iOS.
    pub device: [[Option<TypeNumber>; 3]; 2],
    /// Outermost keys of the context that are told, in their order.
    pub told_context: Vec<Box<str>>,
    pub minimal: bool,
    pub merges_max: u64,
    pub mappings_max: usize,
}

fn limit_of(limit: &Bound<'_, PyAny>) -> PyResult<Limit> {
    Ok(Limit { count: limit.getattr("count")?.extract()?, period: limit.getattr("period")?.extract()? })
}

impl Rules {
    /// From `identity.rules.IdentityRules`, and the keys of the context that are told.
    pub fn from_python(rules: &Bound<'_, PyAny>, told_context: Vec<String>) -> PyResult<Self> {
        let own = rules.getattr("blocked_of")?;
        let own = own.cast::<PyDict>()?;
        let mut types = Vec::new();
        let ranks = rules.call_method1("ranks", (PyTuple::empty(rules.py()),))?;
        for (name, rank) in ranks.cast::<PyDict>()? {
            let name: String = name.extract()?;
            types.push(Type {
                rank: rank.extract()?,
                blocked: own.get_item(&name)?.map(|own| Blocked::from_python(&own)).transpose()?,
                name: name.into(),
            });
        }
        let number = |name: &str| types.iter().position(|type_| &*type_.name == name).map(|at| at as TypeNumber);
        let keys = |attribute: &str, ids: &[&str]| -> PyResult<Vec<Key>> {
            let mut keys = Vec::new();
            for (key, type_) in rules.getattr(attribute)?.extract::<Vec<(String, String)>>()? {
                keys.push(Key { name: key.into_bytes().into(), type_: number(&type_) });
            }
            for id in ids {
                if !keys.iter().any(|key| *key.name == *id.as_bytes()) {
                    keys.push(Key { name: id.as_bytes().into(), type_: None });
                }
            }
            Ok(keys)
        };
        let property_keys = keys("property_keys", &["email"])?;
        let trait_keys = keys("trait_keys", &["email"])?;
        let context_keys = keys("context_keys", &["email", "crossDomainId", "cross_domain_id"])?;
        let mut limits = Vec::new();
        for (name, limit) in rules.getattr("limits")?.cast::<PyDict>()? {
            limits.push((name.extract::<String>()?.into(), limit_of(&limit)?));
        }
        let device = ["android", "ios"]
            .map(|system| ["id", "push_token", "idfa"].map(|name| number(&format!("{system}.{name}"))));
        Ok(Rules {
            space: rules.getattr("space")?.extract()?,
            limit_default: limit_of(&rules.call_method1("limit", ("",))?)?,
            limits,
            blocked: Blocked::from_python(&rules.getattr("blocked")?)?,
            name_is_id: property_keys.iter().any(|key| matches!(&*key.name, b"page_name" | b"screen_name")),
            property_keys,
            trait_keys,
            context_keys,
            anonymous_id: number("anonymous_id"),
            user_id: number("user_id"),
            group_id: number("group_id"),
            device,
            told_context: told_context.into_iter().map(String::into_boxed_str).collect(),
            minimal: rules.getattr("minimal")?.extract()?,
            merges_max: rules.getattr("merges_max")?.extract()?,
            mappings_max: rules.getattr("mappings_max")?.extract()?,
            types,
        })
    }

    pub fn name(&self, type_: TypeNumber) -> &str {
        &self.types[usize::from(type_)].name
    }

    pub fn rank(&self, type_: TypeNumber) -> u32 {
        self.types[usize::from(type_)].rank
    }

    /// The limit of a type; types that are not declared have the default.
    pub fn limit(&self, name: &str) -> Limit {
        let declared = self.limits.iter().find(|(declared, _)| &**declared == name);
        declared.map_or(self.limit_default, |(_, limit)| *limit)
    }

    /// Is the value blocked for all types, or for its own?
    pub fn verdict(&self, type_: TypeNumber, value: &str) -> Verdict {
        self.types[usize::from(type_)].blocked.as_ref().unwrap_or(&self.blocked).verdict(value)
    }
}
