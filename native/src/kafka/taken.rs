//! Records that were taken out of the broker's answers: Python sees a sequence of them, and makes those it looks at.

use std::ops::Range;
use std::sync::Arc;

use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PySlice};

use super::fetched::{Answer, Place};

/// Where records come from.
pub struct Source {
    pub topic: String,
    pub topic_id: String,
    pub partition: i64,
    /// Whether they may map identifiers.
    pub identity: bool,
}

/// Consecutive records of one answer.
#[derive(Clone)]
struct Piece {
    answer: Arc<Answer>,
    places: Range<usize>,
    source: Arc<Source>,
    /// How many records there are up to its end, those of the pieces before it included.
    end: usize,
}

/// A record where it lies.
pub struct Lying<'a> {
    pub offset: i64,
    pub timestamp: i64,
    pub value: Option<&'a [u8]>,
}

/// Records of one source partition or of several, in their order: `Sequence[RawRecord]`.
#[pyclass(module = "cdp_stream.stages._native", sequence, frozen)]
pub struct Records {
    pieces: Vec<Piece>,
}

impl Records {
    /// Records of one answer.
    pub fn of(answer: &Arc<Answer>, places: Range<usize>, source: &Arc<Source>) -> Self {
        let end = places.len();
        Records { pieces: vec![Piece { answer: answer.clone(), places, source: source.clone(), end }] }
    }

    fn count(&self) -> usize {
        self.pieces.last().map_or(0, |piece| piece.end)
    }

    /// Every source and its records, in order.
    pub fn by_source(&self) -> impl Iterator<Item = (&Source, impl Iterator<Item = Lying<'_>>)> {
        self.pieces.iter().map(|piece| {
            let Piece { answer, places, source, .. } = piece;
            let lying = |place: &'_ Place| {
                let value = place.value.clone().map(|range| &answer.raw[range]);
                Lying { offset: place.offset, timestamp: place.timestamp, value }
            };
            (&**source, answer.places[places.clone()].iter().map(lying))
        })
    }

    fn push(&mut self, piece: &Piece, places: Range<usize>) {
        let end = self.count() + places.len();
        self.pieces.push(Piece { places, end, ..piece.clone() });
    }

    fn between(&self, start: usize, end: usize) -> Self {
        let mut found = Records { pieces: Vec::new() };
        for piece in &self.pieces {
            let begin = piece.end - piece.places.len();
            let (from, to) = (start.max(begin), end.min(piece.end));
            if from < to {
                found.push(piece, piece.places.start + from - begin..piece.places.start + to - begin);
            }
        }
        found
    }

    fn record<'py>(&self, py: Python<'py>, number: usize) -> PyResult<Bound<'py, PyAny>> {
        let piece = &self.pieces[self.pieces.partition_point(|piece| piece.end <= number)];
        let place = &piece.answer.places[piece.places.end - (piece.end - number)];
        let bytes =
            |range: &Option<Range<usize>>| range.clone().map(|range| PyBytes::new(py, &piece.answer.raw[range]));
        let shapes = shapes(py)?;
        let Source { topic, topic_id, partition, identity } = &*piece.source;
        let source = shapes.source_ref.bind(py).call1((topic, topic_id, *partition, place.offset))?;
        shapes.raw_record.bind(py).call1((source, place.timestamp, bytes(&place.key), bytes(&place.value), *identity))
    }
}

#[pymethods]
impl Records {
    /// Several sequences as one.
    #[staticmethod]
    fn joined(several: Vec<PyRef<'_, Records>>) -> Self {
        let mut found = Records { pieces: Vec::new() };
        several.iter().flat_map(|one| &one.pieces).for_each(|piece| found.push(piece, piece.places.clone()));
        found
    }

    fn __len__(&self) -> usize {
        self.count()
    }

    /// A `model.event.RawRecord`, or for a slice without a step another sequence.
    fn __getitem__<'py>(&self, py: Python<'py>, at: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(slice) = at.cast::<PySlice>() {
            let indices = slice.indices(self.count() as isize)?;
            if indices.step != 1 {
                return Err(PyValueError::new_err("records are taken without a step"));
            }
            return Ok(Bound::new(py, self.between(indices.start as usize, indices.stop as usize))?.into_any());
        }
        let number: isize = at.extract().map_err(|_| PyTypeError::new_err("records are counted"))?;
        let number = if number < 0 { number + self.count() as isize } else { number };
        if number < 0 || number as usize >= self.count() {
            return Err(PyIndexError::new_err("there is no such record"));
        }
        self.record(py, number as usize)
    }

    /// A checksum of keys and values (`entries.records_crc`).
    fn crc(&self, py: Python<'_>) -> u32 {
        py.detach(|| {
            let mut hasher = crc32fast::Hasher::new();
            for piece in &self.pieces {
                for place in &piece.answer.places[piece.places.clone()] {
                    for part in [&place.key, &place.value].into_iter().flatten() {
                        hasher.update(&piece.answer.raw[part.clone()]);
                    }
                }
            }
            hasher.finalize()
        })
    }
}

/// What a record is handed over as.
struct Shapes {
    raw_record: Py<PyAny>,
    source_ref: Py<PyAny>,
}

static SHAPES: PyOnceLock<Shapes> = PyOnceLock::new();

fn shapes(py: Python<'_>) -> PyResult<&Shapes> {
    SHAPES.get_or_try_init(py, || {
        let class = |module, name| -> PyResult<Py<PyAny>> { Ok(py.import(module)?.getattr(name)?.unbind()) };
        Ok(Shapes {
            raw_record: class("cdp_stream.model.event", "RawRecord")?,
            source_ref: class("cdp_stream.model.ids", "SourceRef")?,
        })
    })
}
