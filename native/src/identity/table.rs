//! Memory of large tables that are read at random: from the system itself, outside of the heap, on huge pages where it has any.
//!
//! A table of a gigabyte is a quarter of a million ordinary pages. Finding one of them takes longer than reading it, the more so
//! in a virtual machine, and where the system looks for memory that is not in use, a page that nobody asked for in
//! a minute has to be found anew. Of huge pages there are five hundred, all of them in use. And what comes and goes outside of the
//! heap leaves no holes in it.

use std::alloc::{handle_alloc_error, Layout};
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use memmap2::MmapMut;

/// So many items, all bits nought at first. Pages that nobody has written to take no memory.
pub struct Table<T> {
    pages: MmapMut,
    items: std::marker::PhantomData<T>,
}

impl<T: Pod> Table<T> {
    /// No room for it ends the process, as with any other memory.
    pub fn new(count: usize) -> Self {
        let Ok(layout) = Layout::array::<T>(count) else { handle_alloc_error(Layout::new::<T>()) };
        let Ok(pages) = MmapMut::map_anon(layout.size()) else { handle_alloc_error(layout) };
        // A kernel without huge pages refuses, and ordinary ones do as well.
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage);
        Table { pages, items: std::marker::PhantomData }
    }
}

impl<T: Pod> Deref for Table<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.pages)
    }
}

impl<T: Pod> DerefMut for Table<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.pages)
    }
}

/// Pieces of equal size, so that what one table gives back serves any other one. The system is asked for so many at a time.
pub struct Pieces<T, const ITEMS: usize, const AT_A_TIME: usize> {
    chunks: Vec<Table<[T; ITEMS]>>,
    free: Vec<u32>,
    handed_out: u32,
}

impl<T: Pod, const ITEMS: usize, const AT_A_TIME: usize> Pieces<T, ITEMS, AT_A_TIME>
where
    [T; ITEMS]: Pod,
{
    pub fn new() -> Self {
        Pieces { chunks: Vec::new(), free: Vec::new(), handed_out: 0 }
    }

    /// The number of a piece that is in nobody's use, all bits nought.
    pub fn take(&mut self) -> u32 {
        if let Some(piece) = self.free.pop() {
            *self.piece_mut(piece) = bytemuck::Zeroable::zeroed();
            return piece;
        }
        if self.handed_out as usize == self.chunks.len() * AT_A_TIME {
            self.chunks.push(Table::new(AT_A_TIME));
        }
        self.handed_out += 1;
        self.handed_out - 1
    }

    /// A piece is needed no more.
    pub fn give_back(&mut self, piece: u32) {
        self.free.push(piece);
    }

    #[inline]
    pub fn piece(&self, piece: u32) -> &[T; ITEMS] {
        &self.chunks[piece as usize / AT_A_TIME][piece as usize % AT_A_TIME]
    }

    #[inline]
    pub fn piece_mut(&mut self, piece: u32) -> &mut [T; ITEMS] {
        &mut self.chunks[piece as usize / AT_A_TIME][piece as usize % AT_A_TIME]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_that_was_given_back_is_handed_out_again_empty() {
        let mut pieces = Pieces::<u64, 4, 3>::new();
        let taken: Vec<u32> = (0..7).map(|_| pieces.take()).collect();
        for &piece in &taken {
            *pieces.piece_mut(piece) = [u64::from(piece) + 1; 4];
        }
        assert!(taken.iter().all(|&piece| *pieces.piece(piece) == [u64::from(piece) + 1; 4]));
        pieces.give_back(taken[5]);
        let again = pieces.take();
        assert_eq!((again, *pieces.piece(again)), (taken[5], [0; 4]));
        assert_eq!(pieces.chunks.len(), 3);
    }
}
