//! Chains of hashes over outputs, as `stages.digest` makes them.

use blake2b_simd::Params;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use rustc_hash::FxHashMap;

use crate::value::{Json, Odd, Value};

const SIZE: usize = 16;
/// Differ from run to run where nothing else does.
const LEFT_OUT: [&str; 2] = ["seq", "now"];

type OfTopic = FxHashMap<Box<[u8]>, [u8; SIZE]>;

/// One chain of hashes per topic and key.
#[pyclass(module = "cdp_stream.stages._native")]
#[derive(Default)]
pub struct Chains {
    topics: FxHashMap<Box<str>, OfTopic>,
    text: Vec<u8>,
}

#[pymethods]
impl Chains {
    #[new]
    fn new() -> Self {
        Chains::default()
    }

    /// One record of a topic. False: it is not one that the core reads.
    fn add(&mut self, topic: &str, key: &[u8], value: &[u8]) -> bool {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let is_read = plain(value, &mut text).is_ok();
        if is_read {
            self.add_plain(topic, key, &text);
        }
        self.text = text;
        is_read
    }

    /// One record of a topic, in canonical form and without what is left out.
    fn add_plain(&mut self, topic: &str, key: &[u8], plain: &[u8]) {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.into(), FxHashMap::default());
        }
        let Some(chains) = self.topics.get_mut(topic) else { return };
        let mut hash = Params::new().hash_length(SIZE).to_state();
        let mut chain = [0; SIZE];
        match chains.get_mut(key) {
            Some(held) => {
                hash.update(held).update(plain);
                held.copy_from_slice(hash.finalize().as_bytes());
            }
            None => {
                hash.update(plain);
                chain.copy_from_slice(hash.finalize().as_bytes());
                chains.insert(key.into(), chain);
            }
        }
    }

    /// Topic, key and chain, in no order.
    fn all<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyString>, Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let mut found = Vec::new();
        for (topic, chains) in &self.topics {
            let topic = PyString::intern(py, topic);
            for (key, chain) in chains {
                found.push((topic.clone(), PyBytes::new(py, key), PyBytes::new(py, chain)));
            }
        }
        found
    }
}

fn plain(raw: &[u8], text: &mut Vec<u8>) -> Result<(), Odd> {
    let mut json = Json::new(raw);
    let Value::Object(mut row) = json.value()? else { return Err(Odd) };
    if json.peek().is_ok() {
        return Err(Odd);
    }
    row.retain(|(key, _)| !LEFT_OUT.contains(&&**key));
    Value::Object(row).put_canonical(text);
    Ok(())
}
