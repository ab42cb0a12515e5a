//! Record batches of a claim's writer: keys, values, and the header `src`.

use super::{header, varint};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

/// Not known to a producer; the leader sets it.
const NO_LEADER_EPOCH: i32 = -1;
const SRC: &[u8] = b"src";
/// Before its key: attributes, and the deltas of timestamp and offset at their longest, and its own length.
const RECORD_OVERHEAD: usize = 1 + 1 + 5 + 5;

/// Who writes: the broker refuses batches of an older epoch, and those that are not next in sequence.
#[derive(Clone, Copy)]
pub struct Owner {
    pub producer_id: i64,
    pub epoch: i16,
    pub sequence: i32,
}

/// A batch while it grows; all of its records have one timestamp, that of being sent.
pub struct Writer {
    buffer: Vec<u8>,
    count: i32,
}

impl Writer {
    pub fn with_capacity(bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(header::RECORDS + bytes);
        buffer.resize(header::RECORDS, 0);
        Self { buffer, count: 0 }
    }

    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn push(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, src: Option<&[u8]>) {
        let offset = i64::from(self.count);
        let headers = src.map_or(1, |src| 1 + 1 + SRC.len() + varint::length(src.len() as i64) + src.len());
        let length = 1 + 1 + varint::length(offset) + field_length(key) + field_length(value) + headers;
        varint::put(&mut self.buffer, length as i64);
        self.buffer.extend([0, 0]);
        varint::put(&mut self.buffer, offset);
        self.field(key);
        self.field(value);
        varint::put(&mut self.buffer, i64::from(src.is_some()));
        if src.is_some() {
            self.field(Some(SRC));
            self.field(src);
        }
        self.count += 1;
    }

    fn field(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => {
                varint::put(&mut self.buffer, bytes.len() as i64);
                self.buffer.extend_from_slice(bytes);
            }
            None => varint::put(&mut self.buffer, -1),
        }
    }

    /// The finished bytes, and how many records they hold.
    pub fn finish(mut self, owner: Owner, timestamp: i64) -> (Vec<u8>, i32) {
        let length = (self.buffer.len() - header::UNCOUNTED) as i32;
        let count = self.count;
        self.put(header::LENGTH, &length.to_be_bytes());
        self.put(header::LENGTH + 4, &NO_LEADER_EPOCH.to_be_bytes());
        self.put(header::MAGIC, &[header::FORMAT]);
        self.put(header::LAST_OFFSET_DELTA, &(count - 1).to_be_bytes());
        self.put(header::FIRST_TIMESTAMP, &timestamp.to_be_bytes());
        self.put(header::MAX_TIMESTAMP, &timestamp.to_be_bytes());
        self.put(header::PRODUCER_ID, &owner.producer_id.to_be_bytes());
        self.put(header::PRODUCER_ID + 8, &owner.epoch.to_be_bytes());
        self.put(header::PRODUCER_ID + 10, &owner.sequence.to_be_bytes());
        self.put(header::COUNT, &count.to_be_bytes());
        let sum = crc32c::crc32c(&self.buffer[header::ATTRIBUTES..]);
        self.put(header::CRC, &sum.to_be_bytes());
        (self.buffer, count)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.buffer[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

fn field_length(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint::length(bytes.len() as i64) + bytes.len())
}

/// A sequence number so many records later; it begins at nought again after the largest.
fn advanced(sequence: i32, count: i32) -> i32 {
    sequence.wrapping_add(count) & i32::MAX
}

/// These records, `(key, value, src)`, as batches in their order, with the number of records in each.
///
/// A batch is closed where it would grow beyond `limit` bytes; a record that is larger alone has a batch of its own.
#[pyfunction]
pub fn record_batches<'py>(
    py: Python<'py>,
    records: &Bound<'py, PyList>,
    limit: usize,
    timestamp: i64,
    owner: (i64, i16, i32),
) -> PyResult<Vec<(Bound<'py, PyBytes>, i32)>> {
    let mut owner = Owner { producer_id: owner.0, epoch: owner.1, sequence: owner.2 };
    let mut done = Vec::new();
    let mut writer = Writer::with_capacity(96 * records.len());
    for record in records.iter() {
        let record = record.cast::<PyTuple>()?;
        if record.len() != 3 {
            return Err(PyValueError::new_err("a record has a key, a value and a src"));
        }
        let (key, value, src) =
            (record.get_borrowed_item(0)?, record.get_borrowed_item(1)?, record.get_borrowed_item(2)?);
        let (key, value) = (bytes_of(&key)?, bytes_of(&value)?);
        let src = text_of(&src)?;
        let size = [key, value, src].iter().flatten().map(|part| part.len() + 5).sum::<usize>() + RECORD_OVERHEAD;
        if !writer.is_empty() && writer.len() + size > limit {
            let full = std::mem::replace(&mut writer, Writer::with_capacity(limit / 4));
            done.push(closed(py, full, &mut owner, timestamp));
        }
        writer.push(key, value, src);
    }
    if !writer.is_empty() {
        done.push(closed(py, writer, &mut owner, timestamp));
    }
    Ok(done)
}

fn closed<'py>(py: Python<'py>, writer: Writer, owner: &mut Owner, timestamp: i64) -> (Bound<'py, PyBytes>, i32) {
    let (bytes, count) = writer.finish(*owner, timestamp);
    owner.sequence = advanced(owner.sequence, count);
    (PyBytes::new(py, &bytes), count)
}

fn bytes_of<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<Option<&'a [u8]>> {
    Ok(if value.is_none() { None } else { Some(value.cast::<PyBytes>()?.as_bytes()) })
}

fn text_of<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<Option<&'a [u8]>> {
    Ok(if value.is_none() { None } else { Some(value.cast::<PyString>()?.to_str()?.as_bytes()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_that_of_the_client() {
        let mut writer = Writer::with_capacity(0);
        writer.push(Some(b"k"), Some(b"v"), Some(b"x"));
        writer.push(None, None, None);
        let (bytes, count) = writer.finish(Owner { producer_id: 7, epoch: 3, sequence: 5 }, 1_234);
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(count, 2);
        assert_eq!(
            text,
            "000000000000000000000047ffffffff02d0058a4800000000000100000000000004d200000000000004d20000000000000007000300\
             000005000000021c000000026b0276020673726302780c000002010100"
        );
    }

    #[test]
    fn sequences_begin_again_after_the_largest() {
        assert_eq!(advanced(5, 3), 8);
        assert_eq!(advanced(i32::MAX - 1, 1), i32::MAX);
        assert_eq!(advanced(i32::MAX - 1, 3), 1);
    }
}
