//! The draft of the identity graph as Python has it: what `stages.graph.GraphDraft` stands on. The walk in Python reads and
//! changes the same graph as the compiled one, through this class; there is no second copy of anything.

use indexmap::IndexMap;
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use std::sync::Arc;

use super::graph::Graph;
use super::ids::{owner_key, profile_key, Collection, ProfileId};
use super::index::Index;
use super::pending::{mark_of, MARK_BYTES};
use super::store::{id_in, Store};
use crate::text::Instant;

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
    index: Index,
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
        let store = Store::new(py, store)?;
        let graph = Graph::new(bytes_max, profiles_count, links_count, !store.has_any(py, b"o")?);
        Ok(IdentityGraph { graph, store, index: Index::new() })
    }

    /// For the garbage collector: a store may lead back to whoever has this.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.store.traverse(&visit)
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
        let IdentityGraph { graph, store, index } = self;
        index.add(graph, step, now);
        index.expire(py, store, graph, now, horizon)?;
        index.read_back(py, store, graph)?;
        let writes = PyDict::new(py);
        let changes = graph.pending.close();
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
        self.index.read_back(py, &self.store, &mut self.graph)
    }

    /// The oldest changes that were handed over stand in the store.
    fn committed(&mut self) {
        self.graph.pending.committed();
    }
}
