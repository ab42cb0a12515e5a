//! Slices of records, taken as a whole: bytes in; changes, ledger rows and what the graph gains out.
//!
//! The walk runs without the interpreter lock, on copies of the records' values. It stops where it needs the store, and where
//! a record is left to the walk in Python, which goes on with this one and hands the slice back.

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use super::draft::IdentityGraph;
use super::event::{Decoder, FoundId};
use super::graph::{Graph, Need};
use super::ids::{owner_key, Collection};
use super::output::{Now, Output, Topic};
use super::pending::mark_of;
use super::records::{read_lying, read_record, Record};
use super::resolve::Walk;
use super::rules::{Rules, Verdict};
use super::texts::Texts;
use crate::kafka::Records;
use crate::text::Instant;

/// So many records before its turn comes what belongs to a record's identifiers is brought near.
const AHEAD: usize = 32;
const SLICE_NOT_DONE: &str = "a slice begins before the last one is done";

/// What the walk works on, without the interpreter.
struct Slice {
    rules: Rules,
    horizon: i64,
    texts: Texts,
    ids: Vec<FoundId>,
    records: Vec<Record>,
    topics: Vec<Topic>,
    out: Output,
    now: Instant,
    append_time: Instant,
    next: usize,
    /// `now` has moved for the next record already.
    arrived: bool,
}

/// Why the walk has stopped.
enum Stop {
    Done,
    Need(Need),
}

impl Slice {
    fn decode(&mut self, graph: &Graph) {
        self.ids.clear();
        let mut decoder = Decoder::new(&self.rules, &graph.prints, &mut self.texts, &mut self.ids);
        for record in &mut self.records {
            record.event = record.text.and_then(|text| decoder.decode(text, record.timestamp));
        }
        for record in &mut self.records {
            if let Some(event) = &record.event {
                record.mark = mark_of(self.texts.get(event.message_id));
            }
        }
    }

    /// Keys that the walk will want of the store; marks are asked for by their records.
    fn wants(&self, graph: &mut Graph) -> (Vec<usize>, Vec<Box<[u8]>>) {
        let (mut marks, mut keys) = (Vec::new(), Vec::new());
        let mut key = Vec::new();
        self.records.iter().take(AHEAD).for_each(|record| graph.marks.touch(&record.mark));
        for (number, record) in self.records.iter().enumerate() {
            if let Some(ahead) = self.records.get(number + AHEAD) {
                graph.marks.touch(&ahead.mark);
            }
            let Some(event) = &record.event else { continue };
            // Stream time only moves on, and the later it is, the fewer marks count.
            let may_hold = graph.marks.may_hold(&record.mark, self.now, self.horizon);
            if may_hold && graph.pending.mark(&record.mark).is_none() {
                marks.push(number);
            }
            if graph.knows_all_owners() {
                continue;
            }
            for (collection, ids) in [(Collection::Users, &event.users), (Collection::Accounts, &event.accounts)] {
                for found in &self.ids[ids.clone()] {
                    if graph.remembered(found.print).is_none() {
                        owner_key(
                            collection,
                            self.rules.name(found.type_).as_bytes(),
                            self.texts.get(found.value),
                            &mut key,
                        );
                        if graph.lacks(&key) {
                            keys.push(key.as_slice().into());
                        }
                    }
                }
            }
        }
        keys.sort_unstable();
        keys.dedup();
        (marks, keys)
    }

    /// Have what is remembered of a record's identifiers brought near.
    fn touch(&self, number: usize, graph: &Graph) {
        if let Some(event) = self.records.get(number).and_then(|record| record.event.as_ref()) {
            let ids = self.ids[event.users.clone()].iter().chain(&self.ids[event.accounts.clone()]);
            ids.for_each(|found| graph.touch(found.print));
        }
    }

    /// Take events until one stops it.
    fn walk(&mut self, graph: &mut Graph) -> Stop {
        if self.next == 0 {
            (0..AHEAD).for_each(|number| self.touch(number, graph));
        }
        while let Some(record) = self.records.get(self.next) {
            self.touch(self.next + AHEAD, graph);
            if !std::mem::replace(&mut self.arrived, true) && record.timestamp > self.now {
                self.now = self.now.max(record.timestamp.min(self.append_time));
            }
            let Some(event) = &record.event else { return Stop::Need(Need::Python) };
            let (mark, now) = (record.mark, self.now);
            let seen = graph.mark(&mark, record.stored_mark);
            if seen.is_some_and(|seen| now - seen < self.horizon) {
                self.out.count("duplicate", event.call.name(), None);
            } else {
                let about = Now {
                    record: self.next,
                    topic: &self.topics[record.topic],
                    partition: record.partition,
                    offset: record.offset,
                    message_id: self.texts.text(event.message_id),
                    time: event.time.min(now),
                    now,
                };
                let mut walk = Walk {
                    rules: &self.rules,
                    graph,
                    out: &mut self.out,
                    texts: &self.texts,
                    ids: &self.ids,
                    identity: record.identity,
                };
                if let Err(need) = walk.take(event, &about, |graph| graph.set_mark(mark, now)) {
                    return Stop::Need(need);
                }
            }
            self.arrived = false;
            self.next += 1;
        }
        Stop::Done
    }
}

/// Takes slices under one topology's rules into one graph.
#[pyclass(module = "cdp_stream.stages._native")]
pub struct SliceWalk {
    graph: Py<IdentityGraph>,
    rules: Py<PyAny>,
    slice: Slice,
    /// Where changes by partition and ledger rows go.
    given: Option<(Py<PyAny>, Py<PyList>)>,
    src: String,
}

/// What rows and changes are handed over as.
struct Shapes {
    raw: Py<PyAny>,
    output_record: Py<PyAny>,
    ledger: Py<PyString>,
}

static SHAPES: PyOnceLock<Shapes> = PyOnceLock::new();

fn shapes(py: Python<'_>) -> PyResult<&Shapes> {
    SHAPES.get_or_try_init(py, || {
        let records = py.import("cdp_stream.stages.records")?;
        Ok(Shapes {
            raw: py.import("msgspec")?.getattr("Raw")?.unbind(),
            output_record: records.getattr("OutputRecord")?.unbind(),
            ledger: records.getattr("LEDGER")?.cast_into::<PyString>()?.unbind(),
        })
    })
}

#[pymethods]
impl SliceWalk {
    /// `rules`: `IdentityRules`. `told_context`: keys of the context that are told. `horizon`: of dedupe.
    #[new]
    fn new(
        graph: Py<IdentityGraph>,
        rules: Bound<'_, PyAny>,
        told_context: Vec<String>,
        horizon: i64,
        partitions: usize,
    ) -> PyResult<Self> {
        let native = Rules::from_python(&rules, told_context)?;
        let mut out = Output::default();
        out.begin(0, "", &native.space, partitions);
        let slice = Slice {
            rules: native,
            horizon,
            texts: Texts::default(),
            ids: Vec::new(),
            records: Vec::new(),
            topics: Vec::new(),
            out,
            now: 0,
            append_time: 0,
            next: 0,
            arrived: false,
        };
        Ok(SliceWalk { graph, rules: rules.unbind(), slice, given: None, src: String::new() })
    }

    /// For the garbage collector: the graph's store may lead back to whoever has this.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.graph)
    }

    /// Stream time up to the record that `advance` has named, this one included.
    #[getter]
    fn now(&self) -> Instant {
        self.slice.now
    }

    /// The index of the step's next change.
    #[getter]
    fn index(&self) -> i64 {
        self.slice.out.index
    }

    /// A slice begins: its changes by partition and its ledger rows go into these. `records`: as they were taken out of the
    /// broker's answers, of which Python makes none, or any of `model.event.RawRecord`.
    fn begin(
        &mut self,
        py: Python<'_>,
        step: i64,
        version: &str,
        records: Bound<'_, PyAny>,
        times: (Instant, Instant),
        given: (Py<PyAny>, Py<PyList>),
    ) -> PyResult<()> {
        let slice = &mut self.slice;
        if slice.next < slice.records.len() {
            return Err(PyRuntimeError::new_err(SLICE_NOT_DONE));
        }
        let (space, partitions) = (slice.rules.space.clone(), slice.out.changes.len());
        slice.out.begin(step, version, &space, partitions);
        (slice.now, slice.append_time) = times;
        (slice.next, slice.arrived) = (0, false);
        slice.texts.clear();
        slice.records.clear();
        slice.topics.clear();
        self.src = format!("identity/0/{step}/");
        self.given = Some(given);
        let lying = records.cast::<Records>().ok().map(Bound::get);
        if lying.is_none() {
            for record in records.try_iter()? {
                slice.records.push(read_record(&record?, &mut slice.texts, &mut slice.topics)?);
            }
        }
        let mut bound = self.graph.bind(py).borrow_mut();
        let IdentityGraph { graph, store, .. } = &mut *bound;
        let (marks, keys) = py.detach(|| {
            if let Some(lying) = lying {
                read_lying(lying, &mut slice.texts, &mut slice.topics, &mut slice.records);
            }
            slice.decode(graph);
            slice.wants(graph)
        });
        for number in marks {
            let record = &mut slice.records[number];
            record.stored_mark = store.mark(py, &record.mark)?;
        }
        for key in keys {
            let found = store.get(py, &key)?;
            graph.learn(key, found.as_ref().map(|raw| raw.as_bytes()));
        }
        ask_patterns(&mut slice.ids, &slice.rules, &slice.texts, self.rules.bind(py))
    }

    /// Go on; `index`: of the next change. Returns the number of the record that is left to Python, and how many records there
    /// are when none is. A record that was left counts as done.
    fn advance(&mut self, py: Python<'_>, index: i64) -> PyResult<usize> {
        let slice = &mut self.slice;
        slice.out.index = index;
        let mut bound = self.graph.bind(py).borrow_mut();
        let IdentityGraph { graph, store, .. } = &mut *bound;
        let number = loop {
            match py.detach(|| slice.walk(graph)) {
                Stop::Done => break slice.next,
                Stop::Need(Need::Python) => {
                    slice.next += 1;
                    slice.arrived = false;
                    break slice.next - 1;
                }
                Stop::Need(Need::Value(key)) => {
                    let found = store.get(py, &key)?;
                    graph.learn(key, found.as_ref().map(|raw| raw.as_bytes()));
                }
                Stop::Need(Need::Links(id)) => {
                    let mut prefix = vec![b'l'];
                    prefix.extend_from_slice(&id.text());
                    prefix.push(0);
                    graph.learn_links(id, store.has_any(py, &prefix)?);
                }
            }
        };
        if number >= slice.records.len() {
            graph.forget();
        }
        self.hand_over(py)?;
        Ok(number)
    }

    /// What was counted since the last call: what, its name, and more about it.
    fn take_tally<'py>(&mut self, py: Python<'py>) -> PyResult<Vec<(Bound<'py, PyTuple>, u64)>> {
        let tally = std::mem::take(&mut self.slice.out.tally);
        let key = |(what, name, more): (&str, &str, Option<&str>)| match more {
            None => PyTuple::new(py, [what, name]),
            Some(more) => PyTuple::new(py, [what, name, more]),
        };
        tally.into_iter().map(|(counted, count)| Ok((key(counted)?, count))).collect()
    }
}

impl SliceWalk {
    /// Changes and rows up to here become Python's, in their order among its own.
    fn hand_over(&mut self, py: Python<'_>) -> PyResult<()> {
        let Some((changes, outputs)) = &self.given else { return Ok(()) };
        let (changes, outputs, shapes) = (changes.bind(py), outputs.bind(py), shapes(py)?);
        let out = &mut self.slice.out;
        for (partition, text) in out.changes.iter_mut().enumerate().filter(|(_, text)| !text.is_empty()) {
            let raw = shapes.raw.bind(py).call1((PyBytes::new(py, text),))?;
            changes.get_item(partition)?.call_method1(intern!(py, "append"), (raw,))?;
            text.clear();
        }
        let mut start = 0;
        for row in out.rows.drain(..) {
            let value = PyBytes::new(py, &out.rows_text[start..row.end]);
            start = row.end;
            let key = match row.profile {
                Some(profile) => PyBytes::new(py, &profile.text()),
                None => PyBytes::new(py, self.slice.rules.space.as_bytes()),
            };
            let src = format!("{}{}/{}", self.src, row.record, row.number);
            let record = (shapes.ledger.bind(py), row.partition, key, value, src);
            outputs.append(shapes.output_record.bind(py).call1(record)?)?;
        }
        out.rows_text.clear();
        Ok(())
    }
}

/// Values for which only patterns can tell whether they are blocked.
fn ask_patterns(ids: &mut [FoundId], rules: &Rules, texts: &Texts, python: &Bound<'_, PyAny>) -> PyResult<()> {
    for found in ids.iter_mut().filter(|found| found.verdict == Verdict::Ask) {
        let id = (rules.name(found.type_), texts.text(found.value));
        let blocked = python.call_method1(intern!(python.py(), "is_blocked"), (id,))?.is_truthy()?;
        found.verdict = if blocked { Verdict::Blocked } else { Verdict::Free };
    }
    Ok(())
}
