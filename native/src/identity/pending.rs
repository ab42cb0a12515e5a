//! What steps have decided and the store does not hold yet: keys, dedupe marks, links; the step in hand and those before it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use indexmap::IndexMap;

use super::ids::ProfileId;
use crate::text::Instant;

pub const MARK_BYTES: usize = 16;
pub type Mark = [u8; MARK_BYTES];
/// What a key holds; None: it is gone.
pub type Held = Option<Arc<[u8]>>;

/// The mark of a message id, under which it stands that the message was seen.
pub fn mark_of(message_id: &[u8]) -> Mark {
    let hash = blake2b_simd::Params::new().hash_length(MARK_BYTES).hash(message_id);
    let mut mark = [0; MARK_BYTES];
    mark.copy_from_slice(hash.as_bytes());
    mark
}

/// One step's changes, in the order in which they were made.
#[derive(Default)]
pub struct Changes {
    pub keys: IndexMap<Box<[u8]>, Held>,
    /// When each mark was set; None: it has expired.
    pub marks: IndexMap<Mark, Option<Instant>>,
    /// Of a profile, with whom it is linked, and that link's number; None: no more.
    pub links: HashMap<ProfileId, Vec<(ProfileId, Option<u64>)>>,
    /// Marks that were set, in order, for the index by which they expire.
    pub set: Vec<Mark>,
    /// The hour under which they stand there.
    pub hour: Option<i64>,
}

/// The step in hand, and those whose commit is not done.
#[derive(Default)]
pub struct Pending {
    pub step: Changes,
    uncommitted: VecDeque<Changes>,
}

impl Pending {
    /// What a key holds, if a step has said so that is not committed.
    pub fn read(&self, key: &[u8]) -> Option<&Held> {
        self.layers().find_map(|changes| changes.keys.get(key))
    }

    /// When a mark was set, if a step has said so that is not committed.
    pub fn mark(&self, mark: &Mark) -> Option<Option<Instant>> {
        self.layers().find_map(|changes| changes.marks.get(mark).copied())
    }

    /// The hours under which marks of steps that are not committed stand in their index.
    pub fn hours(&self) -> impl Iterator<Item = i64> + '_ {
        self.layers().filter_map(|changes| changes.hour)
    }

    /// The latest first.
    fn layers(&self) -> impl Iterator<Item = &Changes> {
        std::iter::once(&self.step).chain(self.uncommitted.iter().rev())
    }

    /// What is said of a profile's links, step by step, the oldest first.
    pub fn links(&self, id: ProfileId) -> impl Iterator<Item = &Vec<(ProfileId, Option<u64>)>> {
        self.uncommitted.iter().chain([&self.step]).filter_map(move |changes| changes.links.get(&id))
    }

    pub fn write(&mut self, key: &[u8], value: Held) {
        self.step.keys.insert(key.into(), value);
    }

    pub fn set_mark(&mut self, mark: Mark, now: Instant) {
        self.step.marks.insert(mark, Some(now));
        self.step.set.push(mark);
    }

    /// Take back the mark that was set last.
    pub fn forget_last(&mut self) {
        if let Some(mark) = self.step.set.pop() {
            self.step.marks.swap_remove(&mark);
        }
    }

    /// Say that a user and an account are linked, or no more.
    pub fn put_link(&mut self, one: ProfileId, other: ProfileId, number: Option<u64>) {
        for (one, other) in [(one, other), (other, one)] {
            self.step.links.entry(one).or_default().push((other, number));
        }
    }

    /// The step in hand is decided: hand it over, and keep it in sight until it is committed.
    pub fn close(&mut self) -> &Changes {
        self.uncommitted.push_back(std::mem::take(&mut self.step));
        &self.uncommitted[self.uncommitted.len() - 1]
    }

    /// The oldest step stands in the store.
    pub fn committed(&mut self) {
        self.uncommitted.pop_front();
    }
}
