//! The records of a slice, as the walk has them.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use pyo3::{intern, Borrowed};

use super::event::Event;
use super::output::Topic;
use super::pending::Mark;
use super::texts::{Span, Texts};
use crate::kafka::Records;
use crate::text::Instant;

/// One record of the slice in hand.
#[derive(Default)]
pub struct Record {
    pub text: Option<Span>,
    pub timestamp: Instant,
    pub identity: bool,
    pub topic: usize,
    pub partition: i64,
    pub offset: i64,
    /// None: it is left to Python.
    pub event: Option<Event>,
    pub mark: Mark,
    /// When the store says that its mark was set; asked once, before the walk begins.
    pub stored_mark: Option<Instant>,
}

/// Those that lie in the broker's answers. Without the interpreter.
pub fn read_lying(lying: &Records, texts: &mut Texts, topics: &mut Vec<Topic>, records: &mut Vec<Record>) {
    for (source, found) in lying.by_source() {
        let topic = number_of(topics, &source.topic, &source.topic_id);
        records.extend(found.map(|record| Record {
            text: record.value.and_then(|value| texts.add(value)),
            timestamp: record.timestamp,
            identity: source.identity,
            topic,
            partition: source.partition,
            offset: record.offset,
            ..Record::default()
        }));
    }
}

/// A `model.event.RawRecord`.
pub fn read_record(record: &Bound<'_, PyAny>, texts: &mut Texts, topics: &mut Vec<Topic>) -> PyResult<Record> {
    let py = record.py();
    let value = record.getattr(intern!(py, "value"))?;
    let text = if value.is_none() { None } else { texts.add(value.cast::<PyBytes>()?.as_bytes()) };
    let source = record.getattr(intern!(py, "source"))?;
    let source = source.cast::<PyTuple>()?;
    let place = |at: usize| -> PyResult<Borrowed<'_, '_, PyAny>> { source.get_borrowed_item(at) };
    let (name, id) = (place(0)?, place(1)?);
    let (name, id) = (name.cast::<PyString>()?, id.cast::<PyString>()?);
    Ok(Record {
        text,
        timestamp: record.getattr(intern!(py, "timestamp"))?.extract()?,
        identity: record.getattr(intern!(py, "identity"))?.is_truthy()?,
        topic: number_of(topics, name.to_str()?, id.to_str()?),
        partition: place(2)?.extract()?,
        offset: place(3)?.extract()?,
        ..Record::default()
    })
}

/// A topic's number in the slice.
fn number_of(topics: &mut Vec<Topic>, name: &str, id: &str) -> usize {
    topics.iter().rposition(|topic| topic.name == name && topic.id == id).unwrap_or_else(|| {
        topics.push(Topic { name: name.to_owned(), id: id.to_owned() });
        topics.len() - 1
    })
}
