//! What the store holds of marks and owners: read back piece by piece after a start, and marks that go when they are old.
//!
//! Every mark that was set stands in an index by the hour, a value a step.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::graph::Graph;
use super::pending::{Held, Mark, MARK_BYTES};
use super::store::{id_in, instant_in, Store};
use crate::text::Instant;

const HOUR_MS: i64 = 3_600_000;
/// How many old steps' marks one step removes: more than it adds, and little enough to go unnoticed.
const EXPIRED_STEPS_MAX: usize = 4;
/// How many marks are read back in one step after a start, some milliseconds' worth.
const MARKS_READ_BACK_MAX: usize = 50_000;
const OWNERS_READ_BACK_MAX: usize = 3_000;

/// How far each has come.
pub struct Index {
    /// From where on the index of marks is still to be read back.
    marks_from: Vec<u8>,
    /// The same of owners.
    owners_from: Vec<u8>,
    /// From this step on the index of marks is our own, and need not be read back.
    marks_own_from: Option<i64>,
    /// Before this key nothing is left in the index of marks.
    marks_left_from: Vec<u8>,
}

impl Index {
    pub fn new() -> Self {
        Index { marks_from: vec![b'x'], owners_from: vec![b'o'], marks_own_from: None, marks_left_from: vec![b'x'] }
    }

    /// The marks that a step has set stand in the index under the hour at which it ends.
    pub fn add(&mut self, graph: &mut Graph, step: i64, now: Instant) {
        let set = std::mem::take(&mut graph.pending.step.set);
        if set.is_empty() {
            return;
        }
        let hour = now.div_euclid(HOUR_MS);
        let mut key = vec![b'x'];
        key.extend_from_slice(&hour.to_be_bytes());
        key.extend_from_slice(&step.to_be_bytes());
        graph.pending.write(&key, Some(Arc::from(set.concat())));
        graph.pending.step.hour = Some(hour);
        graph.marks.indexed(now);
        self.marks_own_from.get_or_insert(step);
    }

    /// Marks that were set at or before `now - horizon` go, and the filters that hold nothing else.
    pub fn expire(
        &mut self,
        py: Python<'_>,
        store: &Store,
        graph: &mut Graph,
        now: Instant,
        horizon: i64,
    ) -> PyResult<()> {
        let left = self.expire_marks(py, store, graph, now - horizon)?;
        let first = left.into_iter().chain(graph.pending.hours()).min();
        graph.marks.expire(now, horizon, first.map(|hour| hour.saturating_mul(HOUR_MS)));
        Ok(())
    }

    /// A piece of what the store held before; is there more? A process that starts must not wait for all of it.
    pub fn read_back(&mut self, py: Python<'_>, store: &Store, graph: &mut Graph) -> PyResult<bool> {
        if !graph.marks.is_complete() {
            self.read_marks_back(py, store, graph)?;
        }
        if graph.may_know_all_owners() {
            self.read_owners_back(py, store, graph)?;
        }
        Ok(!graph.marks.is_complete() || graph.may_know_all_owners())
    }

    fn read_marks_back(&mut self, py: Python<'_>, store: &Store, graph: &mut Graph) -> PyResult<()> {
        let mut left = MARKS_READ_BACK_MAX;
        for pair in store.scan(py, b"x", &self.marks_from)?.try_iter()? {
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
                graph.marks.add(&mark, (hour + 1) * HOUR_MS);
                left = left.saturating_sub(1);
            }
        }
        graph.marks.complete();
        Ok(())
    }

    /// As long as there is room for all of them.
    fn read_owners_back(&mut self, py: Python<'_>, store: &Store, graph: &mut Graph) -> PyResult<()> {
        for (number, pair) in store.scan(py, b"o", &self.owners_from)?.try_iter()?.enumerate() {
            let (key, owner): (Bound<'_, PyBytes>, Bound<'_, PyBytes>) = pair?.extract()?;
            if number == OWNERS_READ_BACK_MAX {
                self.owners_from = key.as_bytes().to_vec();
                return Ok(());
            }
            graph.read_back(key.as_bytes(), id_in(owner.as_bytes())?);
        }
        graph.all_read_back();
        Ok(())
    }

    /// Remove marks that were set at or before `edge`. Returns the hour of the first in the stored index that stay.
    fn expire_marks(
        &mut self,
        py: Python<'_>,
        store: &Store,
        graph: &mut Graph,
        edge: Instant,
    ) -> PyResult<Option<i64>> {
        let mut taken = 0;
        for pair in store.scan(py, b"x", &self.marks_left_from)?.try_iter()? {
            let (key, marks): (Bound<'_, PyBytes>, Bound<'_, PyBytes>) = pair?.extract()?;
            let key = key.as_bytes();
            let (hour, _) = indexed_under(key)?;
            if matches!(graph.pending.read(key), Some(None)) {
                continue; // it goes with a step that is not committed yet
            }
            if edge <= 0 || taken >= EXPIRED_STEPS_MAX || (hour + 1) * HOUR_MS > edge {
                self.marks_left_from = key.to_vec();
                return Ok(Some(hour));
            }
            taken += 1;
            let gone: Held = None;
            graph.pending.write(key, gone);
            for mark in marks.as_bytes().chunks_exact(MARK_BYTES) {
                let mark: Mark = mark.try_into().unwrap_or_default();
                if graph.marks.may_stand_again(&mark) {
                    let set = match graph.pending.mark(&mark) {
                        Some(set) => set,
                        None => store.mark(py, &mark)?,
                    };
                    // A mark that was set again since stays; one that has gone already goes once more.
                    if set.is_some_and(|set| set > edge) {
                        continue;
                    }
                }
                graph.pending.step.marks.insert(mark, None);
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
