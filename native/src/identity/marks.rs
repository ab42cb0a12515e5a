//! Which message ids were surely not seen: what spares nearly every event its question to the store.
//!
//! Filters in the way of Bloom, each a cache line a mark, in generations: when one is full, a larger one takes over; when its
//! latest mark is past the dedupe horizon, it goes. Where no filter has a mark, the store has none that counts. At the bound
//! of bytes the last one is filled beyond its measure: the store is asked more often, and nothing else changes.
//!
//! What the store held before this process is read back from the index by which marks expire, a piece a step; until that is
//! done, the store is asked about every mark.
//!
//! They also spare the question of what an expired mark holds by now. A mark stands in the index once for each time it was
//! set, and one that was set again since must stay; a mark that was in no filter when it was added has been set once.

use std::collections::HashSet;

use super::pending::Mark;
use super::prefetch::prefetch;
use super::table::Table;
use crate::text::Instant;

const LINE_BITS: usize = 512;
type Line = [u64; LINE_BITS / 64];
/// Bits of a line that a mark sets.
const BITS: usize = 6;
/// One mark in about 300 that was not seen is asked for nevertheless.
const MARKS_PER_LINE: usize = 40;
const LINES_MIN: usize = 1 << 11;
const LINES_MAX: usize = 1 << 20;
/// How much larger the next generation is: few generations, since each is asked about every mark.
const GROWTH: usize = 8;
/// Of how many marks it is known that they may have been set more than once; with more, that is said of all.
const AGAIN_MAX: usize = 500_000;

struct Generation {
    lines: Table<Line>,
    count: usize,
    newest: Instant,
    /// Those of its marks that were in a filter before: all that were set before, and what a filter takes for one.
    again: HashSet<Mark>,
}

impl Generation {
    fn new(lines: usize) -> Self {
        Generation { lines: Table::new(lines), count: 0, newest: Instant::MIN, again: HashSet::new() }
    }

    #[inline]
    fn line(&self, mark: &Mark) -> usize {
        let word = u32::from_be_bytes([mark[0], mark[1], mark[2], mark[3]]);
        ((u64::from(word) * self.lines.len() as u64) >> 32) as usize
    }

    #[inline]
    fn has(&self, mark: &Mark) -> bool {
        let line = &self.lines[self.line(mark)];
        bits(mark).all(|bit| line[bit / 64] >> (bit % 64) & 1 == 1)
    }

    fn add(&mut self, mark: &Mark, set: Instant) {
        let at = self.line(mark);
        for bit in bits(mark) {
            self.lines[at][bit / 64] |= 1 << (bit % 64);
        }
        self.count += 1;
        self.newest = self.newest.max(set);
    }
}

/// The bits of a mark in its line: nine of the mark's own bits each.
#[inline]
fn bits(mark: &Mark) -> impl Iterator<Item = usize> {
    let word = u64::from_be_bytes([mark[4], mark[5], mark[6], mark[7], mark[8], mark[9], mark[10], mark[11]]);
    (0..BITS).map(move |number| (word >> (9 * number)) as usize % LINE_BITS)
}

pub struct MarkFilter {
    generations: Vec<Generation>,
    bytes_max: usize,
    /// Too many marks seem to have been set before.
    again_unknown: bool,
    /// Everything that the store held at the beginning is in here.
    complete: bool,
    /// The latest mark that went with its generation.
    gone: Option<Instant>,
}

impl MarkFilter {
    pub fn new(bytes_max: usize) -> Self {
        MarkFilter {
            generations: vec![Generation::new(LINES_MIN)],
            bytes_max,
            again_unknown: false,
            complete: false,
            gone: None,
        }
    }

    pub fn is_complete(&self) -> bool {
        self.complete
    }

    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// May the store hold a mark that is younger than `horizon`?
    #[inline]
    pub fn may_hold(&self, mark: &Mark, now: Instant, horizon: i64) -> bool {
        // A horizon that has become longer may ask for what is gone.
        !self.complete
            || self.gone.is_some_and(|gone| now - gone < horizon)
            || self.generations.iter().any(|generation| generation.has(mark))
    }

    /// Have what the filters hold of this mark brought near.
    #[inline]
    pub fn touch(&self, mark: &Mark) {
        self.generations.iter().for_each(|generation| prefetch(&generation.lines[generation.line(mark)]));
    }

    pub fn add(&mut self, mark: &Mark, set: Instant) {
        let again = !self.again_unknown && self.generations.iter().any(|generation| generation.has(mark));
        let last = self.generations.len() - 1;
        let full = self.generations[last].count >= self.generations[last].lines.len() * MARKS_PER_LINE;
        if full {
            let lines = (self.generations[last].lines.len() * GROWTH).min(LINES_MAX);
            if self.bytes() + lines * size_of::<Line>() <= self.bytes_max {
                self.generations.push(Generation::new(lines));
            }
        }
        if let Some(generation) = self.generations.last_mut() {
            generation.add(mark, set);
            if again {
                generation.again.insert(*mark);
            }
        }
        if again && self.generations.iter().map(|generation| generation.again.len()).sum::<usize>() > AGAIN_MAX {
            self.again_unknown = true;
            self.generations.iter_mut().for_each(|generation| generation.again = HashSet::new());
        }
    }

    /// May a mark stand in the index more than once, or have done so?
    #[inline]
    pub fn may_stand_again(&self, mark: &Mark) -> bool {
        !self.complete
            || self.again_unknown
            || self.generations.iter().any(|generation| generation.again.contains(mark))
    }

    /// The marks that were added last stand in the index under this time.
    pub fn indexed(&mut self, time: Instant) {
        // A step's marks are too few to fill a generation.
        for generation in self.generations.iter_mut().rev().take(2) {
            generation.newest = generation.newest.max(time);
        }
    }

    /// Generations whose marks no longer count go. `first`: from when on marks still stand in the index; those have to be
    /// known if they are set again.
    pub fn expire(&mut self, now: Instant, horizon: i64, first: Option<Instant>) {
        let may_go = |newest: Instant| now - newest >= horizon && first.is_none_or(|first| newest < first);
        while self.generations.len() > 1 && may_go(self.generations[0].newest) {
            self.gone = self.gone.max(Some(self.generations.remove(0).newest));
        }
    }

    fn bytes(&self) -> usize {
        self.generations.iter().map(|generation| generation.lines.len() * size_of::<Line>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::pending::mark_of;
    use super::*;

    fn mark(number: u32) -> Mark {
        mark_of(&number.to_be_bytes())
    }

    #[test]
    fn what_was_added_is_found_and_little_else() {
        let mut filter = MarkFilter::new(64 << 20);
        filter.complete();
        for number in 0..500_000 {
            filter.add(&mark(number), 0);
        }
        assert!((0..500_000).all(|number| filter.may_hold(&mark(number), 0, 1)));
        let wrong = (500_000..600_000).filter(|&number| filter.may_hold(&mark(number), 0, 1)).count();
        assert!(wrong < 2_000, "{wrong}");
        assert_eq!(filter.generations.len(), 2);
    }

    #[test]
    fn a_generation_goes_with_the_horizon_and_a_longer_one_asks_the_store() {
        let mut filter = MarkFilter::new(64 << 20);
        filter.complete();
        let first = (LINES_MIN * MARKS_PER_LINE) as u32;
        (0..first).for_each(|number| filter.add(&mark(number), 10));
        filter.add(&mark(first), 20);
        filter.expire(19, 10, None);
        assert!(filter.may_hold(&mark(0), 19, 10));
        filter.expire(20, 10, Some(10));
        assert!(filter.may_hold(&mark(0), 19, 10), "it still stands in the index");
        filter.expire(20, 10, Some(11));
        assert!(!filter.may_hold(&mark(0), 20, 10));
        assert!(filter.may_hold(&mark(0), 20, 11));
    }

    #[test]
    fn a_mark_that_is_added_twice_may_stand_in_the_index_again() {
        let mut filter = MarkFilter::new(64 << 20);
        (0..300_000).for_each(|number| filter.add(&mark(number), 0));
        assert!(filter.may_stand_again(&mark(1)), "as long as not all were read back");
        filter.complete();
        let again = (0..300_000).filter(|&number| filter.may_stand_again(&mark(number))).count();
        assert!(again < 1_500, "{again}");
        filter.add(&mark(7), 0);
        assert!(filter.may_stand_again(&mark(7)));
        (0..300_000).for_each(|number| filter.add(&mark(number), 0));
        (300_000..900_000).chain(300_000..900_000).for_each(|number| filter.add(&mark(number), 0));
        assert!(filter.may_stand_again(&mark(1_000_000)), "too many to be known");
    }

    #[test]
    fn at_its_bound_it_forgets_nothing() {
        let mut filter = MarkFilter::new(0);
        filter.complete();
        (0..300_000).for_each(|number| filter.add(&mark(number), 0));
        assert!((0..300_000).all(|number| filter.may_hold(&mark(number), 0, 1)));
        assert_eq!(filter.bytes(), LINES_MIN * size_of::<Line>());
    }
}
