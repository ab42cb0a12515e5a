//! Profiles that were read or written lately, within a bound of bytes.
//!
//! Two generations: what is asked for is carried over into the young one, and when that is half of the bound, the old one is
//! dropped as a whole. So what is in use stays, and forgetting costs nothing an entry.

use std::collections::HashMap;
use std::sync::Arc;

use super::ids::ProfileId;

/// What an entry takes beside the profile's own bytes.
const ENTRY_BYTES: usize = 80;

pub struct Profiles {
    young: HashMap<ProfileId, Arc<[u8]>>,
    old: HashMap<ProfileId, Arc<[u8]>>,
    young_bytes: usize,
    bytes_max: usize,
}

impl Profiles {
    pub fn new(bytes_max: usize) -> Self {
        Profiles { young: HashMap::new(), old: HashMap::new(), young_bytes: 0, bytes_max }
    }

    /// A profile as the state holds it, if it is remembered.
    pub fn get(&mut self, id: ProfileId) -> Option<Arc<[u8]>> {
        if let Some(raw) = self.young.get(&id) {
            return Some(raw.clone());
        }
        let raw = self.old.remove(&id)?;
        self.put(id, raw.clone());
        Some(raw)
    }

    /// Remember a profile in its present form.
    pub fn put(&mut self, id: ProfileId, raw: Arc<[u8]>) {
        self.old.remove(&id);
        self.young_bytes += raw.len() + ENTRY_BYTES;
        if let Some(former) = self.young.insert(id, raw) {
            self.young_bytes -= former.len() + ENTRY_BYTES;
        }
        if self.young_bytes > self.bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }

    /// A profile is gone.
    pub fn remove(&mut self, id: ProfileId) {
        self.old.remove(&id);
        if let Some(former) = self.young.remove(&id) {
            self.young_bytes -= former.len() + ENTRY_BYTES;
        }
    }
}
