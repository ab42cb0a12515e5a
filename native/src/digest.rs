//! Chains of hashes over outputs, as `stages.digest` makes them.

use blake2b_simd::Params;
use std::ops::Range;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use rustc_hash::FxHashMap;

use crate::text::put_json_string;
use crate::value::{Json, Odd};

const SIZE: usize = 16;
/// What nests deeper is left to Python.
const DEPTH_MAX: usize = 100;
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
            put_json_string(text, &json.text()?);
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
