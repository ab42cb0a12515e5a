//! The identity graph as the walk sees it: what steps have decided, what is remembered, and what the store has said.
//!
//! The walk never waits: where it needs something that nobody here knows, it says so (`Need`), the store is asked outside of
//! it, and the event is taken once more from its beginning. It changes nothing before it has all it needs.

use std::collections::HashMap;
use std::sync::Arc;

use super::ids::{link_key, owner_key, profile_key, Collection, Print, Prints, ProfileId};
use super::marks::MarkFilter;
use super::owners::Owners;
use super::pending::{Held, Mark, Pending};
use super::profiles::Profiles;
use crate::text::Instant;

/// Why an event cannot be decided right now.
#[derive(Debug)]
pub enum Need {
    /// What does the store hold under this key?
    Value(Box<[u8]>),
    /// Does the store hold a link of this profile?
    Links(ProfileId),
    /// It is a matter for the walk in Python.
    Python,
}

pub struct Graph {
    pub pending: Pending,
    pub profiles_count: i64,
    pub links_count: u64,
    pub prints: Prints,
    pub marks: MarkFilter,
    owners: Owners,
    profiles: Profiles,
    /// What the store has said since the slice began: while it is decided, the store does not change.
    known: HashMap<Box<[u8]>, Held>,
    known_links: HashMap<ProfileId, bool>,
    key: Vec<u8>,
}

impl Graph {
    /// `bytes_max`: of owners, profiles and marks. `empty`: the store knows of no owner.
    pub fn new(bytes_max: (usize, usize, usize), profiles_count: i64, links_count: u64, empty: bool) -> Self {
        Graph {
            pending: Pending::default(),
            profiles_count,
            links_count,
            prints: Prints::new(),
            marks: MarkFilter::new(bytes_max.2),
            owners: Owners::new(bytes_max.0, empty),
            profiles: Profiles::new(bytes_max.1),
            known: HashMap::new(),
            known_links: HashMap::new(),
            key: Vec::new(),
        }
    }

    /// The store says what it holds.
    pub fn learn(&mut self, key: Box<[u8]>, value: Option<&[u8]>) {
        self.known.insert(key, value.map(Arc::from));
    }

    pub fn learn_links(&mut self, id: ProfileId, any: bool) {
        self.known_links.insert(id, any);
    }

    /// A slice is done: what the store has said holds no longer.
    pub fn forget(&mut self) {
        self.known.clear();
        self.known_links.clear();
    }

    /// What a key holds.
    pub fn read(&self, key: &[u8]) -> Result<Held, Need> {
        match self.pending.read(key).or_else(|| self.known.get(key)) {
            Some(held) => Ok(held.clone()),
            None => Err(Need::Value(key.into())),
        }
    }

    /// Who holds an external id.
    #[inline]
    pub fn owner(
        &mut self,
        print: Print,
        collection: Collection,
        type_: &str,
        value: &[u8],
    ) -> Result<Option<ProfileId>, Need> {
        if let Some(owner) = self.owners.get(print) {
            return Ok(Some(owner));
        }
        if self.owners.is_complete() {
            return Ok(None);
        }
        owner_key(collection, type_.as_bytes(), value, &mut self.key);
        let Some(raw) = self.read(&self.key)? else { return Ok(None) };
        let owner = ProfileId::pack(&raw).ok_or(Need::Python)?;
        self.owners.put(print, owner);
        Ok(Some(owner))
    }

    /// Who holds an external id, if that is remembered.
    pub fn remembered(&mut self, print: Print) -> Option<ProfileId> {
        self.owners.get(print)
    }

    pub fn remember(&mut self, print: Print, owner: ProfileId) {
        self.owners.put(print, owner);
    }

    pub fn remembered_profile(&mut self, id: ProfileId) -> Option<Arc<[u8]>> {
        self.profiles.get(id)
    }

    /// Have what is remembered of this id brought near.
    #[inline]
    pub fn touch(&self, print: Print) {
        self.owners.touch(print);
    }

    /// Every owner there is is remembered: the store need not be asked for another one.
    pub fn knows_all_owners(&self) -> bool {
        self.owners.is_complete()
    }

    /// Is it worth reading owners back from the store?
    pub fn may_know_all_owners(&self) -> bool {
        !self.owners.is_complete() && !self.owners.is_lossy()
    }

    /// An owner as the store holds it; what has come since is newer.
    pub fn read_back(&mut self, key: &[u8], owner: ProfileId) {
        let print = self.prints.of(key);
        if self.owners.get(print).is_none() && self.pending.read(key).is_none() {
            self.owners.put(print, owner);
        }
    }

    /// All that the store held was read back.
    pub fn all_read_back(&mut self) {
        self.owners.complete();
    }

    /// Would the store have to be asked for this key?
    pub fn lacks(&self, key: &[u8]) -> bool {
        self.read(key).is_err()
    }

    /// A profile as the state holds it.
    pub fn profile(&mut self, id: ProfileId) -> Result<Arc<[u8]>, Need> {
        if let Some(raw) = self.profiles.get(id) {
            return Ok(raw);
        }
        // An owner whose profile is missing is a damaged state, which the walk in Python reports.
        let raw = self.read(&profile_key(b'p', id))?.ok_or(Need::Python)?;
        self.profiles.put(id, raw.clone());
        Ok(raw)
    }

    /// Is a profile linked with any?
    pub fn has_links(&self, id: ProfileId) -> Result<bool, Need> {
        if self.links_count == 0 {
            return Ok(false);
        }
        if self.pending.links(id).next().is_some() {
            return Err(Need::Python);
        }
        self.known_links.get(&id).copied().ok_or(Need::Links(id))
    }

    pub fn is_linked(&self, one: ProfileId, other: ProfileId) -> Result<bool, Need> {
        Ok(self.links_count > 0 && self.read(&link_key(one, other))?.is_some())
    }

    pub fn set_mark(&mut self, mark: Mark, now: Instant) {
        self.marks.add(&mark, now);
        self.pending.set_mark(mark, now);
    }

    /// When a mark was set; `stored`: what the store holds of it.
    pub fn mark(&self, mark: &Mark, stored: Option<Instant>) -> Option<Instant> {
        self.pending.mark(mark).unwrap_or(stored)
    }

    pub fn put_owner(&mut self, print: Print, collection: Collection, type_: &str, value: &str, owner: ProfileId) {
        owner_key(collection, type_.as_bytes(), value.as_bytes(), &mut self.key);
        self.owners.put(print, owner);
        self.pending.write(&self.key, Some(Arc::from(&owner.text()[..])));
    }

    /// The same where no print is at hand.
    pub fn put_owner_of(&mut self, collection: Collection, type_: &str, value: &str, owner: ProfileId) {
        owner_key(collection, type_.as_bytes(), value.as_bytes(), &mut self.key);
        let print = self.prints.of(&self.key);
        self.put_owner(print, collection, type_, value, owner);
    }

    /// The print of an external id.
    pub fn print_of(&mut self, collection: Collection, type_: &str, value: &str) -> Print {
        owner_key(collection, type_.as_bytes(), value.as_bytes(), &mut self.key);
        self.prints.of(&self.key)
    }

    pub fn put_profile(&mut self, id: ProfileId, raw: Arc<[u8]>) {
        self.pending.write(&profile_key(b'p', id), Some(raw.clone()));
        self.profiles.put(id, raw);
    }

    /// A profile is no more: it has become part of another one.
    pub fn redirect(&mut self, absorbed: ProfileId, survivor: ProfileId) {
        self.profiles.remove(absorbed);
        self.pending.write(&profile_key(b'p', absorbed), None);
        self.pending.write(&profile_key(b'r', absorbed), Some(Arc::from(&survivor.text()[..])));
    }

    /// Say that a user and an account are linked (the next link's number), or no more.
    pub fn put_link(&mut self, one: ProfileId, other: ProfileId, linked: bool) {
        let number = linked.then_some(self.links_count);
        let held: Held = number.map(|number| Arc::from(&number.to_be_bytes()[..]));
        self.pending.write(&link_key(one, other), held.clone());
        self.pending.write(&link_key(other, one), held);
        self.pending.put_link(one, other, number);
        self.links_count += u64::from(linked);
    }

    pub fn owner_bytes(&self) -> usize {
        self.owners.bytes()
    }
}
