//! The texts of a slice, in one piece of memory.

use super::wire::Piece;

/// A piece of text of a slice: of its records, or of what their escapes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// A piece of a record that begins at `base`.
    pub fn of_record(base: usize, piece: Piece) -> Self {
        Span { start: (base + piece.start) as u32, end: (base + piece.end) as u32 }
    }

    pub fn size(self) -> usize {
        (self.end - self.start) as usize
    }
}

const MEANT: u32 = 1 << 31;
/// More than a record's texts can come to when they are written anew.
const MEANT_RECORD_MAX: usize = 1 << 20;

/// The bytes of a slice's records, one after the other, and beside them the escaped texts as what they mean.
#[derive(Default)]
pub struct Texts {
    raw: Vec<u8>,
    meant: Meant,
}

/// Texts that stand nowhere as they are.
#[derive(Default)]
pub struct Meant(pub Vec<u8>);

impl Meant {
    /// What was added since `start`.
    pub fn since(&self, start: usize) -> Span {
        Span { start: start as u32 | MEANT, end: self.0.len() as u32 | MEANT }
    }
}

impl Texts {
    pub fn clear(&mut self) {
        self.raw.clear();
        self.meant.0.clear();
    }

    /// Add a record. None when a slice is larger than its places can be told.
    pub fn add(&mut self, record: &[u8]) -> Option<Span> {
        let start = self.raw.len();
        let end = start + record.len();
        if end >= MEANT as usize {
            return None;
        }
        self.raw.extend_from_slice(record);
        Some(Span { start: start as u32, end: end as u32 })
    }

    /// A record, where it begins, and where what its texts mean goes. None where that is larger than can be told.
    pub fn open(&mut self, record: Span) -> Option<(&[u8], usize, &mut Meant)> {
        if self.meant.0.len() + MEANT_RECORD_MAX >= MEANT as usize {
            return None;
        }
        Some((&self.raw[record.start as usize..record.end as usize], record.start as usize, &mut self.meant))
    }

    #[inline]
    pub fn get(&self, span: Span) -> &[u8] {
        if span.start & MEANT == 0 {
            &self.raw[span.start as usize..span.end as usize]
        } else {
            &self.meant.0[(span.start ^ MEANT) as usize..(span.end ^ MEANT) as usize]
        }
    }

    /// The same as text: every record was found to be UTF-8 before anything else.
    #[inline]
    pub fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.get(span)).unwrap_or_default()
    }
}
