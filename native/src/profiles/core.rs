//! The door from Python: one partition's profiles, and the plain changes of a message done one after the other.
//!
//! A profile has one owner at a time. The core borrows it from the rooms' draft when a change comes that it takes
//! (`lend`), and gives it back when a room asks for it (`give_back`): so neither ever sees an old one.

use std::mem;
use std::sync::Arc;

use indexmap::IndexMap;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use super::event::{Change, Message, Opened};
use super::outputs::{Counted, Tally, Told, Topic};
use super::plan::Plan;
use super::profile::Names;
use super::work::{Budget, Held, Place, Taken};
use crate::text::Instant;

/// Why `run` has stopped.
enum Stop {
    Done,
    /// The next change is one for the rooms.
    Left,
    Full,
    /// A profile's history is to be cut.
    Cut(Box<str>, Instant),
}

/// One partition's profiles, and the message in hand.
#[pyclass(module = "cdp_stream.stages._native")]
pub struct ProfileCore {
    pub(super) partition: i64,
    pub(super) names: Names,
    pub(super) plans: FxHashMap<Box<str>, Arc<Plan>>,
    pub(super) profiles: IndexMap<Box<str>, Held, FxBuildHasher>,
    pub(super) waiting: FxHashSet<Box<str>>,
    pub(super) crowded: FxHashSet<Box<str>>,
    pub(super) message: Option<(Message, Py<PyBytes>)>,
    pub(super) touched: Vec<Box<str>>,
    pub(super) history: Vec<(Box<str>, u64, Vec<u8>)>,
    pub(super) moved: Vec<Box<str>>,
    pub(super) tally: Tally,
    pub(super) told: Told,
    pub(super) topics: FxHashMap<Topic, Py<PyString>>,
    pub(super) record: Py<PyAny>,
    /// What counts towards the step's limits since they were last asked for.
    pub(super) units: usize,
    pub(super) sent_bytes: usize,
    pub(super) pending_bytes: usize,
}

/// Position, latest `now`, last index, why it stopped, and which profile's history is to be cut as of when.
type Reached = (usize, Instant, i64, &'static str, Option<(String, Instant)>);

/// Bytes of a profile, whether they are to be written, their size, and where the index of due times has it.
type GivenBack<'py> = (Bound<'py, PyBytes>, bool, usize, Option<Instant>);

#[pymethods]
impl ProfileCore {
    /// `record`: the class of output records.
    #[new]
    fn new(partition: i64, record: Py<PyAny>) -> Self {
        ProfileCore {
            partition,
            names: Names::default(),
            plans: FxHashMap::default(),
            profiles: IndexMap::default(),
            waiting: FxHashSet::default(),
            crowded: FxHashSet::default(),
            message: None,
            touched: Vec::new(),
            history: Vec::new(),
            moved: Vec::new(),
            tally: Tally::default(),
            told: Told::default(),
            topics: FxHashMap::default(),
            record,
            units: 0,
            sent_bytes: 0,
            pending_bytes: 0,
        }
    }

    /// Take a topology version in. Raises ValueError where it says something that the core does not know.
    fn add_plan(&mut self, version: &str, raw: &[u8]) -> PyResult<()> {
        let plan = Plan::read(raw, &mut self.names).map_err(|_| {
            PyValueError::new_err(format!("the core does not understand the plan of version {version}"))
        })?;
        self.plans.insert(version.into(), Arc::new(plan));
        // What a version does not know may be crowded no more.
        self.crowded.clear();
        Ok(())
    }

    /// A profile that waits for shipments is left to the rooms.
    fn wait(&mut self, profile_id: &str) {
        self.waiting.insert(profile_id.into());
    }

    /// It waits no more.
    fn resume(&mut self, profile_id: &str) {
        self.waiting.remove(profile_id);
    }

    /// Open a message: (step, previous, topology version, how many changes, does it go through all profiles); None if it
    /// is one for the rooms.
    fn open(&mut self, raw: &Bound<'_, PyBytes>) -> Option<(i64, i64, String, usize, bool)> {
        let message = Message::read(raw.as_bytes()).ok()?;
        let about = (
            message.step,
            message.previous,
            message.topology_version.to_string(),
            message.changes.len(),
            message.sweeps,
        );
        self.message = Some((message, raw.clone().unbind()));
        Some(about)
    }

    /// One change of the open message, as its bytes.
    fn change<'py>(&self, py: Python<'py>, position: usize) -> PyResult<Bound<'py, PyBytes>> {
        let (message, raw) = self.message.as_ref().ok_or_else(|| PyValueError::new_err("no message is open"))?;
        match message.changes.get(position) {
            Some(Change::Other(span) | Change::Event(_, span)) => Ok(PyBytes::new(py, &raw.as_bytes(py)[span.clone()])),
            None => Err(PyValueError::new_err(format!("the message has no change {position}"))),
        }
    }

    /// Do the changes of the open message from `position` on, as far as they are plain and the step has room.
    ///
    /// `lend(profile_id)` gives a profile's bytes, whether they are to be written, or None for a new one. Outputs are
    /// appended to `outputs`. Returns the position reached, the latest `now`, the last index done (-1: none), and why it
    /// stopped: "done", "left", "full", or "cut" with a profile and an instant.
    #[pyo3(signature = (offset, position, units_left, bytes_left, lend, outputs))]
    #[allow(clippy::too_many_arguments)]
    fn run<'py>(
        &mut self,
        py: Python<'py>,
        offset: i64,
        mut position: usize,
        units_left: usize,
        bytes_left: usize,
        lend: &Bound<'py, PyAny>,
        outputs: &Bound<'py, PyList>,
    ) -> PyResult<Reached> {
        let (message, raw) = self.message.take().ok_or_else(|| PyValueError::new_err("no message is open"))?;
        let left = Budget { units: units_left, bytes: bytes_left };
        let (mut now, mut last) = (Instant::MIN, -1);
        let place = Place { offset, step: message.step };
        let plan = self.plans.get(&message.topology_version).cloned();
        let mut stop = Stop::Done;
        while let Some(change) = message.changes.get(position) {
            let (Change::Event(event, _), Some(plan)) = (change, &plan) else {
                stop = Stop::Left;
                break;
            };
            if self.waiting.contains(&event.profile_id) || self.crowded.contains(&event.profile_id) {
                stop = Stop::Left;
                break;
            }
            now = now.max(event.now);
            if self.is_full(left) {
                stop = Stop::Full;
                break;
            }
            let is_folded = event.name.as_ref().is_some_and(|name| plan.by_event.contains_key(name));
            let Ok(opened) = Opened::read(event, raw.as_bytes(py), is_folded, plan.retained_events > 0) else {
                stop = Stop::Left;
                break;
            };
            match self.take(py, opened, plan, place, left, lend, outputs)? {
                Taken::Left => {
                    stop = Stop::Left;
                    break;
                }
                Taken::Full => {
                    stop = Stop::Full;
                    break;
                }
                Taken::Done { cut } => {
                    position += 1;
                    last = event.index;
                    if cut {
                        stop = Stop::Cut(event.profile_id.clone(), event.now);
                        break;
                    }
                }
            }
        }
        self.message = Some((message, raw));
        Ok(match stop {
            Stop::Done => (position, now, last, "done", None),
            Stop::Left => (position, now, last, "left", None),
            Stop::Full => (position, now, last, "full", None),
            Stop::Cut(profile_id, at) => (position, now, last, "cut", Some((profile_id.into(), at))),
        })
    }

    /// Fire one profile's due time. False: it is one for the rooms. `place`: step and record of what it fires before.
    #[pyo3(signature = (profile_id, instant, now, place, version, lend, outputs))]
    #[allow(clippy::too_many_arguments)]
    fn fire<'py>(
        &mut self,
        py: Python<'py>,
        profile_id: &str,
        instant: Instant,
        now: Instant,
        place: (i64, i64),
        version: &str,
        lend: &Bound<'py, PyAny>,
        outputs: &Bound<'py, PyList>,
    ) -> PyResult<bool> {
        let Some(plan) = self.plans.get(version).cloned() else { return Ok(false) };
        if !self.borrow(profile_id, &plan, lend)? || !self.profiles.contains_key(profile_id) {
            return Ok(false);
        }
        self.fire_held(py, profile_id, instant, now, place, &plan, outputs)?;
        Ok(true)
    }

    /// Hand a profile back. None: the core has none of this id.
    fn give_back<'py>(&mut self, py: Python<'py>, profile_id: &str) -> Option<GivenBack<'py>> {
        let held = self.profiles.swap_remove(profile_id)?;
        Some((PyBytes::new(py, &held.profile.written(held.size)), held.is_touched, held.size, held.place))
    }

    /// What of a profile's history waits to be written leaves the core: keys and entries.
    fn take_history<'py>(
        &mut self,
        py: Python<'py>,
        profile_id: &str,
    ) -> Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let (mine, others): (Vec<_>, Vec<_>) =
            mem::take(&mut self.history).into_iter().partition(|(owner, _, _)| &**owner == profile_id);
        self.history = others;
        mine.into_iter()
            .map(|(owner, seq, raw)| (PyBytes::new(py, &history_key(&owner, seq)), PyBytes::new(py, &raw)))
            .collect()
    }

    /// Profiles whose due time has moved since the last call: id, where the index has it, where it belongs.
    fn take_moves(&mut self) -> Vec<(String, Option<Instant>, Option<Instant>)> {
        let mut moves = Vec::new();
        for profile_id in mem::take(&mut self.moved) {
            if let Some(held) = self.profiles.get_mut(&profile_id) {
                let due = held.profile.due();
                if due != held.place {
                    moves.push((profile_id.into(), held.place, due));
                    held.place = due;
                }
                held.is_moved = false;
            }
        }
        moves
    }

    /// Units, sent bytes and bytes to be written since the last call.
    fn take_sizes(&mut self) -> (usize, usize, usize) {
        (mem::take(&mut self.units), mem::take(&mut self.sent_bytes), mem::take(&mut self.pending_bytes))
    }

    /// Put what the step has changed into `writes`: moves in the index of due times, every touched profile once, then the
    /// history. Returns the earliest instant to which a profile has moved.
    fn take_writes(&mut self, py: Python<'_>, writes: &Bound<'_, PyDict>) -> PyResult<Option<Instant>> {
        let mut earliest: Option<Instant> = None;
        for (profile_id, place, due) in self.take_moves() {
            if let Some(place) = place {
                writes.set_item(PyBytes::new(py, &due_key(place, &profile_id)), py.None())?;
            }
            if let Some(due) = due {
                writes.set_item(PyBytes::new(py, &due_key(due, &profile_id)), PyBytes::new(py, b""))?;
                earliest = Some(earliest.map_or(due, |before| before.min(due)));
            }
        }
        self.touched.sort_unstable();
        for profile_id in self.touched.drain(..) {
            // One that was given back meanwhile is written by who has it.
            let Some(held) = self.profiles.get_mut(&profile_id).filter(|held| held.is_touched) else { continue };
            let raw = held.profile.written(held.size);
            let mut key = Vec::with_capacity(1 + profile_id.len());
            key.push(b'p');
            key.extend_from_slice(profile_id.as_bytes());
            writes.set_item(PyBytes::new(py, &key), PyBytes::new(py, &raw))?;
            held.size = raw.len();
            held.is_touched = false;
        }
        for (owner, seq, raw) in self.history.drain(..) {
            writes.set_item(PyBytes::new(py, &history_key(&owner, seq)), PyBytes::new(py, &raw))?;
        }
        Ok(earliest)
    }

    /// What was counted since the last call.
    fn take_tally<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let tally = PyDict::new(py);
        for (what, count) in self.tally.drain() {
            let key = match &what {
                Counted::CustomTrait => PyTuple::new(py, ["trait", "custom"])?,
                Counted::ComputedTrait => PyTuple::new(py, ["trait", "computed"])?,
                Counted::Audience { key, entered, by_time } => PyTuple::new(
                    py,
                    [
                        "audience",
                        key,
                        if *entered { "entered" } else { "exited" },
                        if *by_time { "time" } else { "event" },
                    ],
                )?,
                Counted::Destination(name) => PyTuple::new(py, ["destination", name])?,
                Counted::Due => PyTuple::new(py, ["due"])?,
                Counted::Limit(name) => PyTuple::new(py, ["limit", name])?,
            };
            tally.set_item(key, count)?;
        }
        Ok(tally)
    }

    /// Hold the profiles to `most` of them, once what they changed stands in the store. Returns which have gone.
    fn forget_beyond(&mut self, most: usize) -> Vec<String> {
        if self.profiles.len() <= most {
            return Vec::new();
        }
        let half = self.profiles.len() / 2;
        self.profiles.drain(..half).map(|(profile_id, _)| profile_id.into()).collect()
    }
}

/// Where the index of due times has a profile (`stages/due_index.py`).
fn due_key(due: Instant, profile_id: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(profile_id.len() + 9);
    key.push(b'd');
    key.extend_from_slice(&due.to_be_bytes());
    key.extend_from_slice(profile_id.as_bytes());
    key
}

fn history_key(profile_id: &str, seq: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(profile_id.len() + 9);
    key.push(b'h');
    key.extend_from_slice(profile_id.as_bytes());
    key.extend_from_slice(&seq.to_be_bytes());
    key
}
