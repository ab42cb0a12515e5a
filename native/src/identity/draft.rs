//! The draft of the identity graph as Python has it: what `stages.graph.GraphDraft` stands on. The walk in Python reads and
//! changes the same graph as the compiled one, through this class; there is no second copy of anything.

use indexmap::IndexMap;
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use std::sync::Arc;

use super::graph::Graph;
use super::ids::{owner_key, profile_key, Collection, ProfileId};
use super::pending::{mark_of, Held, Mark, MARK_BYTES};
use crate::text::Instant;

const HOUR_MS: i64 = 3_600_000;
/// How many old steps' marks one step removes: more than it adds, and little enough to go unnoticed.
const EXPIRED_STEPS_MAX: usize = 4;
/// How many marks are read back in one step after a start, some milliseconds' worth.
const MARKS_READ_BACK_MAX: usize = 50_000;
const OWNERS_READ_BACK_MAX: usize = 3_000;

/// A store to read from.
pub struct Store {
    get: Py<PyAny>,
    store: Py<PyAny>,
}

impl Store {
    pub fn get<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let found = self.get.bind(py).call1((PyBytes::new(py, key),))?;
        if found.is_none() {
            Ok(None)
        } else {
            Ok(Some(found.cast_into::<PyBytes>()?))
        }
    }

    /// Pairs whose key begins with `prefix`, in the order of their keys, from the key `start` on.
    pub fn scan<'py>(&self, py: Python<'py>, prefix: &[u8], start: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let (prefix, start) = (PyBytes::new(py, prefix), PyBytes::new(py, start));
        self.store.bind(py).call_method1(intern!(py, "scan"), (prefix, start))
    }

    /// Does any key begin so?
    pub fn has_any(&self, py: Python<'_>, prefix: &[u8]) -> PyResult<bool> {
        Ok(self.scan(py, prefix, b"")?.try_iter()?.next().transpose()?.is_some())
    }

    /// When a mark was set, as far as the store knows.
    pub fn mark(&self, py: Python<'_>, mark: &Mark) -> PyResult<Option<Instant>> {
        let mut key = [b'm'; MARK_BYTES + 1];
        key[1..].copy_from_slice(mark);
        self.get(py, &key)?.map(|raw| instant_in(raw.as_bytes())).transpose()
    }
}

fn instant_in(raw: &[u8]) -> PyResult<Instant> {
    let raw = raw.try_into().map_err(|_| PyValueError::new_err("a dedupe mark that is no instant"))?;
    Ok(Instant::from_be_bytes(raw))
}

fn id_in(text: &[u8]) -> PyResult<ProfileId> {
    ProfileId::pack(text)
        .ok_or_else(|| PyValueError::new_err(format!("no profile id: {:?}", String::from_utf8_lossy(text))))
}

fn collection_in(name: &str) -> PyResult<Collection> {
    Collection::of_name(name).ok_or_else(|| PyValueError::new_err(name.to_owned()))
}

/// An id as Python has it.
fn text_of(py: Python<'_>, id: ProfileId) -> Bound<'_, PyString> {
    let text = id.text();
    PyString::new(py, std::str::from_utf8(&text).unwrap_or_default())
}

/// In the order of keys, in which the store takes them fastest.
fn sorted<K: Ord, V>(changes: &IndexMap<K, V>) -> Vec<(&K, &V)> {
    let mut sorted: Vec<_> = changes.iter().collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    sorted
}

/// The graph over a store: caches, and the changes of steps that are not committed.
#[pyclass(module = "cdp_stream.stages._native")]
pub struct IdentityGraph {
    pub graph: Graph,
    pub store: Store,
    /// From where on the index of marks is still to be read back.
    marks_from: Vec<u8>,
    /// The same of owners.
    owners_from: Vec<u8>,
    /// From this step on the index of marks is our own, and need not be read back.
    marks_own_from: Option<i64>,
    /// Before this key nothing is left in the index of marks.
    marks_left_from: Vec<u8>,
}

impl IdentityGraph {
    fn read_raw<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Option<Bound<'py, PyBytes>>> {
        match self.graph.pending.read(key) {
            Some(held) => Ok(held.as_deref().map(|raw| PyBytes::new(py, raw))),
            None => self.store.get(py, key),
        }
    }
}

#[pymethods]
impl IdentityGraph {
    /// The counts as the barrier says; the bounds in bytes of owners, profiles and marks.
    #[new]
    fn new(
        store: Py<PyAny>,
        profiles_count: i64,
        links_count: u64,
        bytes_max: (usize, usize, usize),
        py: Python<'_>,
    ) -> PyResult<Self> {
        let store = Store { get: store.getattr(py, "get")?, store };
        let graph = Graph::new(bytes_max, profiles_count, links_count, !store.has_any(py, b"o")?);
        Ok(IdentityGraph {
            graph,
            store,
            marks_from: vec![b'x'],
            owners_from: vec![b'o'],
            marks_own_from: None,
            marks_left_from: vec![b'x'],
        })
    }

    /// For the garbage collector: a store may lead back to whoever has this.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.store.get)?;
        visit.call(&self.store.store)
    }

    #[getter]
    fn profiles_count(&self) -> i64 {
        self.graph.profiles_count
    }

    #[setter]
    fn set_profiles_count(&mut self, count: i64) {
        self.graph.profiles_count = count;
    }

    #[getter]
    fn links_count(&self) -> u64 {
        self.graph.links_count
    }

    /// What the cache of owners takes of memory.
    #[getter]
    fn owner_bytes(&self) -> usize {
        self.graph.owner_bytes()
    }

    /// What a key holds, uncommitted changes included.
    fn read<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.read_raw(py, key)
    }

    /// Who holds an external id.
    fn owner<'py>(
        &mut self,
        py: Python<'py>,
        collection: &str,
        type_: &str,
        value: &str,
    ) -> PyResult<Option<Bound<'py, PyString>>> {
        let collection = collection_in(collection)?;
        let print = self.graph.print_of(collection, type_, value);
        if let Some(owner) = self.graph.remembered(print) {
            return Ok(Some(text_of(py, owner)));
        }
        let mut key = Vec::new();
        owner_key(collection, type_.as_bytes(), value.as_bytes(), &mut key);
        let Some(raw) = self.read_raw(py, &key)? else { return Ok(None) };
        let owner = id_in(raw.as_bytes())?;
        self.graph.remember(print, owner);
        Ok(Some(text_of(py, owner)))
    }

    /// A profile as the state holds it.
    fn profile<'py>(&mut self, py: Python<'py>, profile_id: &str) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let id = id_in(profile_id.as_bytes())?;
        if let Some(raw) = self.graph.remembered_profile(id) {
            return Ok(Some(PyBytes::new(py, &raw)));
        }
        self.read_raw(py, &profile_key(b'p', id))
    }

    fn put_profile(&mut self, profile_id: &str, raw: &[u8]) -> PyResult<()> {
        self.graph.put_profile(id_in(profile_id.as_bytes())?, Arc::from(raw));
        Ok(())
    }

    fn put_owner(&mut self, collection: &str, type_: &str, value: &str, owner: &str) -> PyResult<()> {
        self.graph.put_owner_of(collection_in(collection)?, type_, value, id_in(owner.as_bytes())?);
        Ok(())
    }

    /// An absorbed profile is gone; whoever asks for it is led to the survivor.
    fn redirect(&mut self, absorbed: &str, survivor: &str) -> PyResult<()> {
        self.graph.redirect(id_in(absorbed.as_bytes())?, id_in(survivor.as_bytes())?);
        Ok(())
    }

    /// User and account are linked, or no more.
    fn put_link(&mut self, one: &str, other: &str, linked: bool) -> PyResult<()> {
        self.graph.put_link(id_in(one.as_bytes())?, id_in(other.as_bytes())?, linked);
        Ok(())
    }

    /// What uncommitted steps say of a profile's links, the oldest first: with whom, and its number; None: no more.
    fn links<'py>(&self, py: Python<'py>, profile_id: &str) -> PyResult<Bound<'py, PyList>> {
        let layers = PyList::empty(py);
        for layer in self.graph.pending.links(id_in(profile_id.as_bytes())?) {
            let links = PyDict::new(py);
            for &(other, number) in layer {
                links.set_item(text_of(py, other), number)?;
            }
            layers.append(links)?;
        }
        Ok(layers)
    }

    /// Mark the message id. False if it was marked already less than `horizon` of stream time ago.
    fn first_seen(&mut self, py: Python<'_>, message_id: &str, now: Instant, horizon: i64) -> PyResult<bool> {
        let mark = mark_of(message_id.as_bytes());
        let seen = match self.graph.pending.mark(&mark) {
            Some(seen) => seen,
            None if self.graph.marks.may_hold(&mark, now, horizon) => self.store.mark(py, &mark)?,
            None => None,
        };
        if seen.is_some_and(|seen| now - seen < horizon) {
            return Ok(false);
        }
        self.graph.set_mark(mark, now);
        Ok(true)
    }

    /// Take back the mark that was set last.
    fn forget_last(&mut self) {
        self.graph.pending.forget_last();
    }

    /// The step's changes, with the index of its dedupe marks; old marks beyond the horizon go.
    fn take_writes<'py>(
        &mut self,
        py: Python<'py>,
        step: i64,
        now: Instant,
        horizon: i64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let set = std::mem::take(&mut self.graph.pending.step.set);
        if !set.is_empty() {
            let hour = now.div_euclid(HOUR_MS);
            let mut key = vec![b'x'];
            key.extend_from_slice(&hour.to_be_bytes());
            key.extend_from_slice(&step.to_be_bytes());
            self.graph.pending.write(&key, Some(Arc::from(set.concat())));
            self.graph.pending.step.hour = Some(hour);
            self.graph.marks.indexed(now);
            self.marks_own_from.get_or_insert(step);
        }
        let left = self.expire_marks(py, now - horizon)?;
        self.read_back(py)?;
        let first = left.into_iter().chain(self.graph.pending.hours()).min();
        self.graph.marks.expire(now, horizon, first.map(|hour| hour.saturating_mul(HOUR_MS)));
        let writes = PyDict::new(py);
        let changes = self.graph.pending.close();
        for (key, held) in sorted(&changes.keys) {
            writes.set_item(PyBytes::new(py, key), held.as_deref().map(|raw| PyBytes::new(py, raw)))?;
        }
        let mut key = [b'm'; MARK_BYTES + 1];
        let mut last: (Instant, Bound<'_, PyBytes>) = (-1, PyBytes::new(py, b""));
        for (mark, set) in sorted(&changes.marks) {
            key[1..].copy_from_slice(mark);
            let key = PyBytes::new(py, &key);
            let Some(set) = *set else {
                writes.set_item(key, py.None())?;
                continue;
            };
            // Most marks of a step share their instant.
            if last.0 != set {
                last = (set, PyBytes::new(py, &set.to_be_bytes()));
            }
            writes.set_item(key, &last.1)?;
        }
        Ok(writes)
    }

    /// Remember a piece of what the store held before this process, and say whether there is more. Each step does so, too.
    fn read_back(&mut self, py: Python<'_>) -> PyResult<bool> {
        self.read_marks_back(py)?;
        self.read_owners_back(py)?;
        Ok(!self.graph.marks.is_complete() || self.graph.may_know_all_owners())
    }

    /// The oldest changes that were handed over stand in the store.
    fn committed(&mut self) {
        self.graph.pending.committed();
    }
}

impl IdentityGraph {
    /// A piece of what the store held before: a process that starts must not wait for all of it.
    fn read_marks_back(&mut self, py: Python<'_>) -> PyResult<()> {
        if self.graph.marks.is_complete() {
            return Ok(());
        }
        let mut left = MARKS_READ_BACK_MAX;
        for pair in self.store.scan(py, b"x", &self.marks_from)?.try_iter()? {
            let (key, marks): (Bound<'_, PyBytes>, Bound<'_, PyBytes>) = pair?.extract()?;
            if left == 0 {
                self.marks_from = key.as_bytes().to_vec();
                return Ok(());
            }
            let (hour, step) = indexed_under(key.as_bytes())?;
            if self.marks_own_from.is_some_and(|own| step >= own) {
                break;
            }
            for mark in marks.as_bytes().chunks_exact(MARK_BYTES) {
                let mark: Mark = mark.try_into().unwrap_or_default();
                self.graph.marks.add(&mark, (hour + 1) * HOUR_MS);
                left = left.saturating_sub(1);
            }
        }
        self.graph.marks.complete();
        Ok(())
    }

    /// The same of owners, as long as there is room for all of them.
    fn read_owners_back(&mut self, py: Python<'_>) -> PyResult<()> {
        if !self.graph.may_know_all_owners() {
            return Ok(());
        }
        for (number, pair) in self.store.scan(py, b"o", &self.owners_from)?.try_iter()?.enumerate() {
            let (key, owner): (Bound<'_, PyBytes>, Bound<'_, PyBytes>) = pair?.extract()?;
            if number == OWNERS_READ_BACK_MAX {
                self.owners_from = key.as_bytes().to_vec();
                return Ok(());
            }
            self.graph.read_back(key.as_bytes(), id_in(owner.as_bytes())?);
        }
        self.graph.all_read_back();
        Ok(())
    }

    /// Remove marks that were set at or before `edge`. Returns the hour of the first in the stored index that stay.
    fn expire_marks(&mut self, py: Python<'_>, edge: Instant) -> PyResult<Option<i64>> {
        let mut taken = 0;
        for pair in self.store.scan(py, b"x", &self.marks_left_from)?.try_iter()? {
            let (key, marks): (Bound<'_, PyBytes>, Bound<'_, PyBytes>) = pair?.extract()?;
            let key = key.as_bytes();
            let (hour, _) = indexed_under(key)?;
            if matches!(self.graph.pending.read(key), Some(None)) {
                continue; // it goes with a step that is not committed yet
            }
            if edge <= 0 || taken >= EXPIRED_STEPS_MAX || (hour + 1) * HOUR_MS > edge {
                self.marks_left_from = key.to_vec();
                return Ok(Some(hour));
            }
            taken += 1;
            let gone: Held = None;
            self.graph.pending.write(key, gone);
            for mark in marks.as_bytes().chunks_exact(MARK_BYTES) {
                let mark: Mark = mark.try_into().unwrap_or_default();
                if self.graph.marks.may_stand_again(&mark) {
                    let set = match self.graph.pending.mark(&mark) {
                        Some(set) => set,
                        None => self.store.mark(py, &mark)?,
                    };
                    // A mark that was set again since stays; one that has gone already goes once more.
                    if set.is_some_and(|set| set > edge) {
                        continue;
                    }
                }
                self.graph.pending.step.marks.insert(mark, None);
            }
        }
        Ok(None)
    }
}

/// The hour and the step of a key in the index of marks.
fn indexed_under(key: &[u8]) -> PyResult<(i64, i64)> {
    let part = |range| key.get(range).map(instant_in).transpose();
    Ok((part(1..9)?.unwrap_or_default(), part(9..17)?.unwrap_or_default()))
}
