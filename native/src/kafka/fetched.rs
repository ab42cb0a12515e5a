//! What the broker answers to a fetch, as source records: parsed in one pass, taken slice by slice.

use super::taken::{Records, Source};
use super::{header, varint};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

const COMPRESSION: u16 = 0x07;
const APPEND_TIME: u16 = 0x08;
const TRANSACTIONAL: u16 = 0x10;
const CONTROL: u16 = 0x20;
/// In the key of a control record: its version, then which of the two it is.
const ABORT_KEY: [u8; 2] = [0, 0];

/// Transactions that came to nothing, by producer id and first offset; in the order of the latter.
pub type Aborted = VecDeque<(i64, i64)>;

/// Where a record stands in the answer.
pub struct Place {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Range<usize>>,
    pub value: Option<Range<usize>>,
}

/// The records of an answer, and where the next fetch begins.
pub struct Run {
    places: Vec<Place>,
    next_offset: i64,
}

impl Run {
    /// Offset and value of each record, for those who look.
    pub fn values<'a>(&'a self, raw: &'a [u8]) -> impl Iterator<Item = (i64, Option<&'a [u8]>)> {
        self.places.iter().map(|place| (place.offset, place.value.clone().map(|range| &raw[range])))
    }

    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }
}

/// Why an answer is left to others.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// A compressed batch, or one of an older format.
    OtherFormat,
    /// It is not what was written.
    Corrupt,
}

/// The records of an answer from the offset `from` on; batches that were cut off at its end are left out.
///
/// Records of transactions in `aborted` are passed over, as readers of committed records do; None: all are read.
pub fn parse(raw: &[u8], from: i64, mut aborted: Option<Aborted>) -> Result<Run, Refused> {
    let mut run = Run { places: Vec::new(), next_offset: from };
    let mut given_up: HashSet<i64> = HashSet::new();
    let mut at = 0;
    while raw.len() - at > header::MAGIC {
        let length = i32_at(raw, at + header::LENGTH);
        let length = usize::try_from(length).map_err(|_| Refused::Corrupt)? + header::UNCOUNTED;
        if raw[at + header::MAGIC] != header::FORMAT {
            return Err(Refused::OtherFormat);
        }
        if length < header::RECORDS {
            return Err(Refused::Corrupt);
        }
        if raw.len() - at < length {
            break;
        }
        let batch = at..at + length;
        at = batch.end;
        let bytes = &raw[batch.clone()];
        let attributes = u16::from_be_bytes([bytes[header::ATTRIBUTES], bytes[header::ATTRIBUTES + 1]]);
        if attributes & COMPRESSION != 0 {
            return Err(Refused::OtherFormat);
        }
        if crc32c::crc32c(&bytes[header::ATTRIBUTES..]) != i32_at(bytes, header::CRC) as u32 {
            return Err(Refused::Corrupt);
        }
        let base = i64_at(bytes, 0);
        let next = base + i64::from(i32_at(bytes, header::LAST_OFFSET_DELTA)) + 1;
        let producer = i64_at(bytes, header::PRODUCER_ID);
        if let Some(aborted) = &mut aborted {
            while aborted.front().is_some_and(|&(_, first)| first <= base) {
                given_up.extend(aborted.pop_front().map(|(producer, _)| producer));
            }
        }
        let skipped = attributes & CONTROL != 0 || (attributes & TRANSACTIONAL != 0 && given_up.contains(&producer));
        if attributes & CONTROL != 0 && is_abort(raw, &batch)? {
            given_up.remove(&producer);
        }
        if !skipped {
            let append_time = (attributes & APPEND_TIME != 0).then(|| i64_at(bytes, header::MAX_TIMESTAMP));
            records(raw, &batch, append_time, |place| {
                if place.offset >= from {
                    run.places.push(place);
                }
            })?;
        }
        run.next_offset = run.next_offset.max(next);
    }
    Ok(run)
}

/// Is this control batch the marker of an aborted transaction?
fn is_abort(raw: &[u8], batch: &Range<usize>) -> Result<bool, Refused> {
    let mut abort = false;
    records(raw, batch, None, |place| {
        abort = place.key.is_some_and(|key| raw[key].get(2..4) == Some(&ABORT_KEY));
    })?;
    Ok(abort)
}

/// Every record of a batch; `append_time`: the one timestamp of all, where the topic has it.
fn records(
    raw: &[u8],
    batch: &Range<usize>,
    append_time: Option<i64>,
    mut take: impl FnMut(Place),
) -> Result<(), Refused> {
    let bytes = &raw[batch.clone()];
    let (base, first) = (i64_at(bytes, 0), i64_at(bytes, header::FIRST_TIMESTAMP));
    let mut rest = &bytes[header::RECORDS..];
    for _ in 0..i32_at(bytes, header::COUNT) {
        let mut place = || -> Option<Place> {
            let length = usize::try_from(varint::take(&mut rest)?).ok()?;
            let mut record = rest.get(1..length)?;
            let delta = varint::take(&mut record)?;
            let timestamp = append_time.unwrap_or(first.wrapping_add(delta));
            let offset = base.wrapping_add(varint::take(&mut record)?);
            let key = field(&mut record, batch.end - rest.len() + length)?;
            let value = field(&mut record, batch.end - rest.len() + length)?;
            rest = &rest[length..];
            Some(Place { offset, timestamp, key, value })
        };
        take(place().ok_or(Refused::Corrupt)?);
    }
    Ok(())
}

/// A field of a record that ends at `end` of the answer, of which `record` is the rest. Outer None: it does not hold it.
fn field(record: &mut &[u8], end: usize) -> Option<Option<Range<usize>>> {
    let length = varint::take(record)?;
    if length < 0 {
        return Some(None);
    }
    let length = usize::try_from(length).ok()?;
    let begin = end - record.len();
    *record = record.get(length..)?;
    Some(Some(begin..begin + length))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(std::array::from_fn(|place| bytes[at + place]))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(std::array::from_fn(|place| bytes[at + place]))
}

/// An answer's bytes, and where its records stand in them.
pub struct Answer {
    pub raw: PyBackedBytes,
    pub places: Vec<Place>,
}

/// The records of an answer that have not been taken yet.
#[pyclass]
pub struct Fetched {
    answer: Arc<Answer>,
    next_offset: i64,
    taken: usize,
}

#[pymethods]
impl Fetched {
    fn __len__(&self) -> usize {
        self.answer.places.len() - self.taken
    }

    /// Where the next fetch begins.
    #[getter]
    fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Up to `count` records, as long as their values leave room, and what room is left.
    ///
    /// `source`: topic, its id, partition, and whether its records may map identifiers.
    fn take(&mut self, count: usize, room: i64, source: (String, String, i64, bool)) -> (Records, i64) {
        let (mut left, start) = (room, self.taken);
        for place in self.answer.places[start..].iter().take(count) {
            if left <= 0 {
                break;
            }
            left -= place.value.as_ref().map_or(0, Range::len) as i64;
            self.taken += 1;
        }
        let (topic, topic_id, partition, identity) = source;
        let source = Arc::new(Source { topic, topic_id, partition, identity });
        (Records::of(&self.answer, start..self.taken, &source), left)
    }
}

/// The records of an answer from the offset `start` on, or None where the client has to read it.
///
/// `aborted`: producer ids and first offsets of aborted transactions; None reads these, too. Raises ValueError where a batch
/// is not what was written.
#[pyfunction]
#[pyo3(signature = (raw, start, aborted))]
pub fn fetched_records(
    py: Python<'_>,
    raw: PyBackedBytes,
    start: i64,
    aborted: Option<Vec<(i64, i64)>>,
) -> PyResult<Option<Fetched>> {
    let in_order = aborted.map(|mut aborted| {
        aborted.sort_by_key(|&(_, first)| first);
        Aborted::from(aborted)
    });
    match py.detach(|| parse(&raw, start, in_order)) {
        Ok(Run { places, next_offset }) => {
            Ok(Some(Fetched { answer: Arc::new(Answer { raw, places }), next_offset, taken: 0 }))
        }
        Err(Refused::OtherFormat) => Ok(None),
        Err(Refused::Corrupt) => Err(PyValueError::new_err("a record batch is not what was written")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Owner, Writer};
    use super::*;

    const ATTRIBUTES: usize = header::ATTRIBUTES + 1;

    /// A batch at an offset, as a broker holds it.
    fn batch(base: i64, attributes: u16, producer: i64, records: &[(Option<&[u8]>, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::with_capacity(0);
        for (key, value) in records {
            writer.push(*key, Some(value), Some(b"a header"));
        }
        let (mut bytes, _) = writer.finish(Owner { producer_id: producer, epoch: 0, sequence: 0 }, 1_000);
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        bytes[ATTRIBUTES] = attributes as u8;
        let sum = crc32c::crc32c(&bytes[header::ATTRIBUTES..]);
        bytes[header::CRC..header::ATTRIBUTES].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn seen(raw: &[u8], run: &Run) -> Vec<(i64, String)> {
        run.values(raw).map(|(offset, value)| (offset, String::from_utf8_lossy(value.unwrap()).into_owned())).collect()
    }

    #[test]
    fn records_from_an_offset_on() {
        let mut raw = batch(5, 0, -1, &[(None, b"a"), (Some(b"key"), b"b"), (None, b"c")]);
        raw.extend(batch(9, 0, -1, &[(None, b"d")]));
        let run = parse(&raw, 6, None).unwrap();
        assert_eq!(seen(&raw, &run), [(6, "b".into()), (7, "c".into()), (9, "d".into())]);
        assert_eq!(run.next_offset(), 10);
        let key = run.places[0].key.clone().unwrap();
        assert_eq!(&raw[key], b"key");
        assert!(run.places.iter().all(|place| place.timestamp == 1_000));
    }

    #[test]
    fn a_batch_cut_off_at_the_end_waits() {
        let mut raw = batch(0, 0, -1, &[(None, b"a")]);
        let whole = raw.len();
        raw.extend(batch(1, 0, -1, &[(None, b"b")]));
        for end in whole..raw.len() {
            let run = parse(&raw[..end], 0, None).unwrap();
            assert_eq!((run.places.len(), run.next_offset()), (1, 1));
        }
    }

    #[test]
    fn aborted_transactions_are_passed_over_until_their_marker() {
        let (abort, commit) = ([0, 0, 0, 0], [0, 0, 0, 1]);
        let mut raw = batch(0, TRANSACTIONAL, 7, &[(None, b"given up")]);
        raw.extend(batch(1, TRANSACTIONAL, 8, &[(None, b"kept")]));
        raw.extend(batch(2, TRANSACTIONAL | CONTROL, 7, &[(Some(&abort), b"")]));
        raw.extend(batch(3, TRANSACTIONAL, 7, &[(None, b"the next one's")]));
        raw.extend(batch(4, TRANSACTIONAL | CONTROL, 8, &[(Some(&commit), b"")]));
        let run = parse(&raw, 0, Some(Aborted::from([(7, 0)]))).unwrap();
        assert_eq!(seen(&raw, &run), [(1, "kept".into()), (3, "the next one's".into())]);
        assert_eq!(run.next_offset(), 5);
        assert_eq!(parse(&raw, 0, None).unwrap().places.len(), 3);
    }

    #[test]
    fn append_time_is_that_of_the_batch() {
        let raw = batch(0, APPEND_TIME, -1, &[(None, b"a"), (None, b"b")]);
        let run = parse(&raw, 0, None).unwrap();
        assert_eq!(run.places.iter().map(|place| place.timestamp).collect::<Vec<_>>(), [1_000, 1_000]);
    }

    #[test]
    fn what_is_not_ours_to_read_is_refused() {
        let raw = batch(0, 1, -1, &[(None, b"a")]);
        assert_eq!(parse(&raw, 0, None).err(), Some(Refused::OtherFormat));
        let mut raw = batch(0, 0, -1, &[(None, b"a")]);
        raw[header::MAGIC] = 1;
        assert_eq!(parse(&raw, 0, None).err(), Some(Refused::OtherFormat));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let raw = batch(0, 0, -1, &[(Some(b"k"), b"value")]);
        for at in header::CRC..raw.len() {
            let mut changed = raw.clone();
            changed[at] ^= 0x01;
            assert!(parse(&changed, 0, None).is_err(), "byte {at}");
        }
    }
}
