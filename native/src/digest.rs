//! Chains of hashes over outputs, as `stages.digest` makes them, in a thread of their own: nothing waits for a hash but the end.

use std::ops::Range;
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::thread::JoinHandle;

use blake2b_simd::Params;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyString};
use rustc_hash::FxHashMap;

use crate::text::put_json_string;
use crate::value::{Json, Odd};

const SIZE: usize = 16;
/// What nests deeper is left to Python.
const DEPTH_MAX: usize = 100;
/// Differ from run to run where nothing else does.
const LEFT_OUT: [&str; 2] = ["seq", "now"];
/// Records that go to the thread at once, and how many times as many may wait there.
const TOGETHER: usize = 500;
const WAITING_MAX: usize = 8;

struct Record {
    topic: usize,
    key: PyBackedBytes,
    value: PyBackedBytes,
}

/// By topic, as they are numbered, and key.
type Held = Vec<FxHashMap<Box<[u8]>, [u8; SIZE]>>;

enum Hashing {
    AtRest(Held),
    Thread(SyncSender<Vec<Record>>, JoinHandle<PyResult<Held>>),
}

/// One chain of hashes per topic and key.
#[pyclass(module = "cdp_stream.stages._native")]
pub struct Chains {
    canonical: Py<PyAny>,
    topics: Vec<Box<str>>,
    taken: Vec<Record>,
    hashing: Hashing,
}

#[pymethods]
impl Chains {
    /// `canonical`: gives the canonical form of a record that the core does not read.
    #[new]
    fn new(canonical: Py<PyAny>) -> Self {
        Chains { canonical, topics: Vec::new(), taken: Vec::new(), hashing: Hashing::AtRest(Vec::new()) }
    }

    /// One record of a topic. Raises, late, what `canonical` has raised.
    fn add(&mut self, py: Python<'_>, topic: &str, key: PyBackedBytes, value: PyBackedBytes) -> PyResult<()> {
        let number = self.topics.iter().position(|known| **known == *topic).unwrap_or_else(|| {
            self.topics.push(topic.into());
            self.topics.len() - 1
        });
        self.taken.push(Record { topic: number, key, value });
        if self.taken.len() >= TOGETHER {
            self.pass_on(py)?;
        }
        Ok(())
    }

    /// Topic, key and chain, in no order.
    #[allow(clippy::type_complexity)]
    fn all<'py>(
        &mut self,
        py: Python<'py>,
    ) -> PyResult<Vec<(Bound<'py, PyString>, Bound<'py, PyBytes>, Bound<'py, PyBytes>)>> {
        self.pass_on(py)?;
        let held = self.rest(py)?;
        let mut found = Vec::new();
        for (topic, chains) in self.topics.iter().zip(&held) {
            let topic = PyString::intern(py, topic);
            for (key, chain) in chains {
                found.push((topic.clone(), PyBytes::new(py, key), PyBytes::new(py, chain)));
            }
        }
        self.hashing = Hashing::AtRest(held);
        Ok(found)
    }
}

impl Chains {
    /// Give the thread what was taken.
    fn pass_on(&mut self, py: Python<'_>) -> PyResult<()> {
        let taken = std::mem::take(&mut self.taken);
        if let Hashing::AtRest(held) = &mut self.hashing {
            let held = std::mem::take(held);
            let canonical = self.canonical.clone_ref(py);
            let (sender, receiver) = sync_channel(WAITING_MAX);
            self.hashing = Hashing::Thread(sender, std::thread::spawn(|| hash_all(receiver, held, canonical)));
        }
        let Hashing::Thread(sender, _) = &self.hashing else { return Ok(()) };
        match py.detach(|| sender.send(taken)) {
            Ok(()) => Ok(()),
            // It has ended, and says why.
            Err(_) => self.rest(py).map(|held| self.hashing = Hashing::AtRest(held)),
        }
    }

    /// Wait until all is hashed.
    fn rest(&mut self, py: Python<'_>) -> PyResult<Held> {
        match std::mem::replace(&mut self.hashing, Hashing::AtRest(Vec::new())) {
            Hashing::AtRest(held) => Ok(held),
            Hashing::Thread(sender, thread) => py.detach(|| {
                drop(sender);
                thread.join().unwrap_or_else(|_| Err(PyRuntimeError::new_err("the thread that hashes has failed")))
            }),
        }
    }
}

fn hash_all(batches: Receiver<Vec<Record>>, mut held: Held, canonical: Py<PyAny>) -> PyResult<Held> {
    let mut text = Vec::new();
    for batch in batches {
        for record in batch {
            text.clear();
            if plain(&record.value, &mut text).is_err() {
                text = Python::attach(|py| canonical.call1(py, (&record.value,))?.extract(py))?;
            }
            while held.len() <= record.topic {
                held.push(FxHashMap::default());
            }
            add_plain(&mut held[record.topic], &record.key, &text);
        }
    }
    Ok(held)
}

/// One record in canonical form.
fn add_plain(chains: &mut FxHashMap<Box<[u8]>, [u8; SIZE]>, key: &[u8], plain: &[u8]) {
    let mut hash = Params::new().hash_length(SIZE).to_state();
    match chains.get_mut(key) {
        Some(chain) => {
            hash.update(chain).update(plain);
            chain.copy_from_slice(hash.finalize().as_bytes());
        }
        None => {
            hash.update(plain);
            let mut chain = [0; SIZE];
            chain.copy_from_slice(hash.finalize().as_bytes());
            chains.insert(key.into(), chain);
        }
    }
}

/// The record in canonical form: keys sorted, numbers and texts as orjson writes them, without what is left out.
fn plain(raw: &[u8], text: &mut Vec<u8>) -> Result<(), Odd> {
    let mut json = Json::new(raw);
    if json.peek()? != b'{' {
        return Err(Odd);
    }
    put_object(&mut json, text, &LEFT_OUT, 0)?;
    if json.peek().is_ok() {
        return Err(Odd);
    }
    Ok(())
}

fn put_value(json: &mut Json<'_>, text: &mut Vec<u8>, depth: usize) -> Result<(), Odd> {
    match json.peek()? {
        b'{' => put_object(json, text, &[], depth + 1),
        b'[' => {
            json.expect(b'[')?;
            text.push(b'[');
            let mut first = true;
            while json.another(b']', first)? {
                if !first {
                    text.push(b',');
                }
                first = false;
                if depth > DEPTH_MAX {
                    return Err(Odd);
                }
                put_value(json, text, depth + 1)?;
            }
            text.push(b']');
            Ok(())
        }
        b'"' => {
            match json.plain_text()? {
                // What stands there without an escape is what orjson would write.
                Some(plain) => {
                    text.push(b'"');
                    text.extend_from_slice(plain.as_bytes());
                    text.push(b'"');
                }
                None => put_json_string(text, &json.text()?),
            }
            Ok(())
        }
        _ => {
            json.value()?.put_json(text);
            Ok(())
        }
    }
}

fn put_object(json: &mut Json<'_>, text: &mut Vec<u8>, left_out: &[&str], depth: usize) -> Result<(), Odd> {
    if depth > DEPTH_MAX {
        return Err(Odd);
    }
    json.expect(b'{')?;
    text.push(b'{');
    let begun = text.len();
    let mut fields: Vec<(&str, Range<usize>)> = Vec::with_capacity(16);
    let mut first = true;
    while let Some(key) = json.plain_key(first)? {
        first = false;
        let start = text.len();
        put_json_string(text, key);
        text.push(b':');
        put_value(json, text, depth)?;
        if left_out.contains(&key) {
            text.truncate(start);
        } else {
            text.push(b',');
            fields.push((key, start - begun..text.len() - begun));
        }
    }
    if !fields.is_sorted_by(|one, other| one.0 < other.0) {
        fields.sort_unstable_by(|one, other| one.0.cmp(other.0));
        if fields.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(Odd);
        }
        let unsorted = text.split_off(begun);
        for (_, span) in &fields {
            text.extend_from_slice(&unsorted[span.clone()]);
        }
    }
    if fields.is_empty() {
        text.push(b'}');
    } else if let Some(last) = text.last_mut() {
        // The comma behind the last field.
        *last = b'}';
    }
    Ok(())
}
