//! A profile as the core keeps it, read from and written to the state's bytes (`model.profile.ProfileState`).

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::RandomState;
use indexmap::IndexMap;

use crate::text::Instant;
use crate::value::{put_msgpack_array, put_msgpack_int, put_msgpack_map, put_msgpack_text, Msgpack, Odd, Value};

/// A dict of the state: by key, in the order of insertion. Senders choose keys, but cannot know the hash's seed.
pub type Map<T> = IndexMap<Arc<str>, T, RandomState>;
/// What was met already, of names and ids that senders choose.
pub type Met<T> = HashSet<T, RandomState>;
/// Ids that go together in one outgoing message: type and id of each.
pub type Combination = Vec<(Arc<str>, Box<str>)>;

/// Names that many profiles share, each kept once.
#[derive(Default)]
pub struct Names(Met<Arc<str>>);

/// More names than that come from senders, who may invent any; they are not shared.
const NAMES_MAX: usize = 100_000;

impl Names {
    /// The one copy of a name.
    pub fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        let new: Arc<str> = name.into();
        if self.0.len() < NAMES_MAX {
            self.0.insert(new.clone());
        }
        new
    }
}

pub struct KnownId {
    pub type_: Arc<str>,
    pub id: Box<str>,
    pub first_seen: Instant,
}

pub struct CustomTrait {
    pub value: Value,
    pub time: Instant,
    pub message_id: Box<str>,
}

pub struct Profile {
    pub id: Box<str>,
    pub is_user: bool,
    pub created: Instant,
    pub external_ids: Vec<KnownId>,
    pub custom: Map<CustomTrait>,
    pub states: Map<Value>,
    pub computed: Map<Value>,
    pub memberships: Map<bool>,
    pub dues: Map<Instant>,
    pub open: Map<Map<Vec<Combination>>>,
    pub told: Map<Map<Vec<(Combination, Value)>>>,
}

impl Profile {
    /// One that has nothing but an id.
    pub fn new(id: &str, is_user: bool, created: Instant) -> Profile {
        Profile {
            id: id.into(),
            is_user,
            created,
            external_ids: Vec::new(),
            custom: Map::default(),
            states: Map::default(),
            computed: Map::default(),
            memberships: Map::default(),
            dues: Map::default(),
            open: Map::default(),
            told: Map::default(),
        }
    }

    /// The earliest instant at which time alone may change or tell anything.
    pub fn due(&self) -> Option<Instant> {
        self.dues.values().min().copied()
    }

    /// From the state's bytes; Odd where it holds what only the rooms understand.
    pub fn read(raw: &[u8], names: &mut Names) -> Result<Profile, Odd> {
        let mut pack = Msgpack::new(raw);
        let mut profile = Profile::new("", true, 0);
        for _ in 0..pack.map()? {
            match pack.text()? {
                "id" => profile.id = pack.text()?.into(),
                "collection" => profile.is_user = pack.text()? == "users",
                "created" => profile.created = pack.int()?,
                "external_ids" => {
                    for _ in 0..pack.array()? {
                        expect_array(&mut pack, 3)?;
                        let type_ = names.shared(pack.text()?);
                        profile.external_ids.push(KnownId { type_, id: pack.text()?.into(), first_seen: pack.int()? });
                    }
                }
                "custom" => {
                    profile.custom = map(&mut pack, names, |pack, _| {
                        expect_array(pack, 3)?;
                        Ok(CustomTrait { value: pack.value()?, time: pack.int()?, message_id: pack.text()?.into() })
                    })?;
                }
                "states" => profile.states = map(&mut pack, names, |pack, _| pack.value())?,
                "computed" => profile.computed = map(&mut pack, names, |pack, _| pack.value())?,
                "memberships" => {
                    profile.memberships = map(&mut pack, names, |pack, _| match pack.value()? {
                        Value::Bool(member) => Ok(member),
                        _ => Err(Odd),
                    })?;
                }
                "dues" => profile.dues = map(&mut pack, names, |pack, _| pack.int())?,
                "open" => {
                    profile.open = map(&mut pack, names, |pack, names| {
                        map(pack, names, |pack, names| list(pack, names, combination))
                    })?;
                }
                "told" => {
                    profile.told = map(&mut pack, names, |pack, names| {
                        map(pack, names, |pack, names| {
                            list(pack, names, |pack, names| {
                                expect_array(pack, 2)?;
                                Ok((combination(pack, names)?, pack.value()?))
                            })
                        })
                    })?;
                }
                _ => return Err(Odd),
            }
        }
        Ok(profile)
    }

    /// The state's bytes; what is empty is left out. `size`: of the last time.
    pub fn written(&self, size: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(size + 256);
        let dicts = [
            self.custom.is_empty(),
            self.states.is_empty(),
            self.computed.is_empty(),
            self.memberships.is_empty(),
            self.dues.is_empty(),
            self.open.is_empty(),
            self.told.is_empty(),
        ];
        let fields = 3 + usize::from(!self.external_ids.is_empty()) + dicts.iter().filter(|empty| !**empty).count();
        put_msgpack_map(&mut out, fields);
        put_msgpack_text(&mut out, "id");
        put_msgpack_text(&mut out, &self.id);
        put_msgpack_text(&mut out, "collection");
        put_msgpack_text(&mut out, if self.is_user { "users" } else { "accounts" });
        put_msgpack_text(&mut out, "created");
        put_msgpack_int(&mut out, self.created);
        if !self.external_ids.is_empty() {
            put_msgpack_text(&mut out, "external_ids");
            put_msgpack_array(&mut out, self.external_ids.len());
            for known in &self.external_ids {
                put_msgpack_array(&mut out, 3);
                put_msgpack_text(&mut out, &known.type_);
                put_msgpack_text(&mut out, &known.id);
                put_msgpack_int(&mut out, known.first_seen);
            }
        }
        put_dict(&mut out, "custom", &self.custom, |out, held| {
            put_msgpack_array(out, 3);
            held.value.put_msgpack(out);
            put_msgpack_int(out, held.time);
            put_msgpack_text(out, &held.message_id);
        });
        put_dict(&mut out, "states", &self.states, |out, state| state.put_msgpack(out));
        put_dict(&mut out, "computed", &self.computed, |out, value| value.put_msgpack(out));
        put_dict(&mut out, "memberships", &self.memberships, |out, member| out.push(0xc2 | u8::from(*member)));
        put_dict(&mut out, "dues", &self.dues, |out, due| put_msgpack_int(out, *due));
        put_dict(&mut out, "open", &self.open, |out, audiences| {
            put_pairs(out, audiences, |out, opened| {
                put_msgpack_array(out, opened.len());
                for whom in opened {
                    put_combination(out, whom);
                }
            });
        });
        put_dict(&mut out, "told", &self.told, |out, traits| {
            put_pairs(out, traits, |out, told| {
                put_msgpack_array(out, told.len());
                for (whom, value) in told {
                    put_msgpack_array(out, 2);
                    put_combination(out, whom);
                    value.put_msgpack(out);
                }
            });
        });
        out
    }
}

fn expect_array(pack: &mut Msgpack<'_>, size: usize) -> Result<(), Odd> {
    if pack.array()? == size {
        Ok(())
    } else {
        Err(Odd)
    }
}

fn map<T>(
    pack: &mut Msgpack<'_>,
    names: &mut Names,
    mut read: impl FnMut(&mut Msgpack<'_>, &mut Names) -> Result<T, Odd>,
) -> Result<Map<T>, Odd> {
    let size = pack.map()?;
    let mut found = Map::with_capacity_and_hasher(size, RandomState::default());
    for _ in 0..size {
        let key = names.shared(pack.text()?);
        let value = read(pack, names)?;
        found.insert(key, value);
    }
    Ok(found)
}

fn list<T>(
    pack: &mut Msgpack<'_>,
    names: &mut Names,
    mut read: impl FnMut(&mut Msgpack<'_>, &mut Names) -> Result<T, Odd>,
) -> Result<Vec<T>, Odd> {
    (0..pack.array()?).map(|_| read(pack, names)).collect()
}

fn combination(pack: &mut Msgpack<'_>, names: &mut Names) -> Result<Combination, Odd> {
    list(pack, names, |pack, names| {
        expect_array(pack, 2)?;
        Ok((names.shared(pack.text()?), pack.text()?.into()))
    })
}

fn put_combination(out: &mut Vec<u8>, whom: &Combination) {
    put_msgpack_array(out, whom.len());
    for (type_, id) in whom {
        put_msgpack_array(out, 2);
        put_msgpack_text(out, type_);
        put_msgpack_text(out, id);
    }
}

fn put_dict<T>(out: &mut Vec<u8>, name: &str, held: &Map<T>, put: impl FnMut(&mut Vec<u8>, &T)) {
    if !held.is_empty() {
        put_msgpack_text(out, name);
        put_pairs(out, held, put);
    }
}

fn put_pairs<T>(out: &mut Vec<u8>, held: &Map<T>, mut put: impl FnMut(&mut Vec<u8>, &T)) {
    put_msgpack_map(out, held.len());
    for (key, value) in held {
        put_msgpack_text(out, key);
        put(out, value);
    }
}
