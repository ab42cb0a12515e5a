//! A store, as the core asks it: through Python, which has it open.

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::ids::ProfileId;
use super::pending::{Mark, MARK_BYTES};
use crate::text::Instant;

/// A store to read from.
pub struct Store {
    get: Py<PyAny>,
    store: Py<PyAny>,
}

impl Store {
    pub fn new(py: Python<'_>, store: Py<PyAny>) -> PyResult<Self> {
        Ok(Store { get: store.getattr(py, "get")?, store })
    }

    /// For the garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.get)?;
        visit.call(&self.store)
    }

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

pub fn instant_in(raw: &[u8]) -> PyResult<Instant> {
    let raw = raw.try_into().map_err(|_| PyValueError::new_err("a dedupe mark that is no instant"))?;
    Ok(Instant::from_be_bytes(raw))
}

pub fn id_in(text: &[u8]) -> PyResult<ProfileId> {
    ProfileId::pack(text)
        .ok_or_else(|| PyValueError::new_err(format!("no profile id: {:?}", String::from_utf8_lossy(text))))
}
