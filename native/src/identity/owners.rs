//! Who owns which external id, as far as it is remembered: 32 bytes an id, within a bound of bytes.
//!
//! A table of buckets in the way of a cuckoo's: an id stands in one of two buckets of four. It is cut
//! into shards that grow by a quarter, one at a time, so that growing never stops the stage for long and never needs twice the
//! memory. At the bound, the entry in the last place of a bucket gives way. An entry that is asked for moves a place
//! forward; so what has been asked for only once goes first, and a pass over many ids leaves those in use alone.
//!
//! It is a cache and nothing else: what it does not know is asked of the state, and what it knows is never wrong.

use super::ids::{Print, ProfileId, SHARD_BITS};

const PLACES: usize = 4;
/// How often a shard tries more buckets, for the case that its entries find no room in a quarter more.
const GROWTHS_MAX: usize = 8;

#[derive(Clone, Copy)]
#[repr(C)]
struct Entry {
    low: u64,
    high: [u8; 3],
    owner: ProfileId,
}

const EMPTY: Entry = Entry { low: 0, high: [0; 3], owner: ProfileId::NONE };

impl Entry {
    #[inline]
    fn is(&self, print: Print) -> bool {
        self.low == print.low && self.high == print.high.to_le_bytes()[..3]
    }
}

type Bucket = [Entry; PLACES];

#[derive(Default)]
struct Shard {
    buckets: Vec<Bucket>,
}

impl Shard {
    /// The two buckets of a print, which two halves of it choose.
    #[inline]
    fn places(&self, low: u64) -> [usize; 2] {
        let count = self.buckets.len() as u64;
        [((low & 0xffff_ffff) * count) >> 32, ((low >> 32) * count) >> 32].map(|bucket| bucket as usize)
    }

    /// Put an entry where there is room, into the emptier one of its buckets; if need be, another entry makes room for it
    /// that has some in its own other bucket. False if there is none.
    fn place(&mut self, entry: Entry) -> bool {
        if self.buckets.is_empty() {
            return false;
        }
        let free = |bucket: &Bucket| bucket.iter().filter(|entry| entry.low == 0).count();
        let [one, other] = self.places(entry.low);
        let emptier = if free(&self.buckets[one]) >= free(&self.buckets[other]) { one } else { other };
        if self.fill(emptier, entry) {
            return true;
        }
        for bucket in [one, other] {
            for place in 0..PLACES {
                let moved = self.buckets[bucket][place];
                let [first, second] = self.places(moved.low);
                if self.fill(if first == bucket { second } else { first }, moved) {
                    self.buckets[bucket][place] = entry;
                    return true;
                }
            }
        }
        false
    }

    fn fill(&mut self, bucket: usize, entry: Entry) -> bool {
        match self.buckets[bucket].iter_mut().find(|entry| entry.low == 0) {
            Some(free) => {
                *free = entry;
                true
            }
            None => false,
        }
    }

    /// The same entries in so many buckets; None if some of them find no room there.
    fn grown(&self, count: usize) -> Option<Shard> {
        let mut grown = Shard { buckets: vec![[EMPTY; PLACES]; count] };
        let mut entries = self.buckets.iter().flatten().filter(|entry| entry.low != 0);
        entries.all(|entry| grown.place(*entry)).then_some(grown)
    }
}

/// The cache of owners.
pub struct Owners {
    shards: Vec<Shard>,
    buckets: usize,
    buckets_max: usize,
    /// Every owner there is stands here.
    complete: bool,
    /// Something was forgotten: never again will it be complete.
    lossy: bool,
}

impl Owners {
    /// `complete`: there is no owner yet.
    pub fn new(bytes_max: usize, complete: bool) -> Self {
        let shards = (0..1 << SHARD_BITS).map(|_| Shard::default()).collect();
        Owners { shards, buckets: 0, buckets_max: bytes_max / size_of::<Bucket>(), complete, lossy: false }
    }

    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Is there room for all owners, as far as is known?
    pub fn is_lossy(&self) -> bool {
        self.lossy
    }

    /// Every owner that the store held at the beginning was put here, too.
    pub fn complete(&mut self) {
        self.complete = !self.lossy;
    }

    /// The owner of an external id, if it is remembered.
    #[inline]
    pub fn get(&mut self, print: Print) -> Option<ProfileId> {
        let full = self.buckets >= self.buckets_max;
        let shard = &mut self.shards[print.shard as usize];
        if shard.buckets.is_empty() {
            return None;
        }
        for bucket in shard.places(print.low) {
            let bucket = &mut shard.buckets[bucket];
            if let Some(place) = bucket.iter().position(|entry| entry.is(print)) {
                let owner = bucket[place].owner;
                if full && place > 0 {
                    bucket.swap(place, place - 1);
                }
                return Some(owner);
            }
        }
        None
    }

    /// Have what belongs to this print brought near: many at once take hardly longer than one.
    #[inline]
    pub fn touch(&self, print: Print) {
        let shard = &self.shards[print.shard as usize];
        if !shard.buckets.is_empty() {
            for bucket in shard.places(print.low) {
                std::hint::black_box(shard.buckets[bucket][0].low ^ shard.buckets[bucket][2].low);
            }
        }
    }

    /// Remember the owner of an external id; another one that was remembered is forgotten.
    pub fn put(&mut self, print: Print, owner: ProfileId) {
        let high = print.high.to_le_bytes();
        let entry = Entry { low: print.low, high: [high[0], high[1], high[2]], owner };
        let shard = &mut self.shards[print.shard as usize];
        if !shard.buckets.is_empty() {
            for bucket in shard.places(print.low) {
                if let Some(held) = shard.buckets[bucket].iter_mut().find(|entry| entry.is(print)) {
                    held.owner = owner;
                    return;
                }
            }
        }
        if shard.place(entry) {
            return;
        }
        let mut more = 0;
        for _ in 0..GROWTHS_MAX {
            more += ((shard.buckets.len() + more) / 4).max(1);
            if self.buckets + more > self.buckets_max {
                break;
            }
            if let Some(mut grown) = shard.grown(shard.buckets.len() + more) {
                if grown.place(entry) {
                    *shard = grown;
                    self.buckets += more;
                    return;
                }
            }
        }
        (self.complete, self.lossy) = (false, true);
        if !shard.buckets.is_empty() {
            let bucket = shard.places(print.low)[(print.high & 1) as usize];
            shard.buckets[bucket][PLACES - 1] = entry;
        }
    }

    /// What it takes of memory.
    pub fn bytes(&self) -> usize {
        self.buckets * size_of::<Bucket>()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::{Prints, TEXT_BYTES};
    use super::*;

    fn owner(number: u32) -> ProfileId {
        let text = format!("use_{number:027}");
        assert_eq!(text.len(), TEXT_BYTES);
        ProfileId::pack(text.as_bytes()).expect("made here")
    }

    #[test]
    fn an_entry_takes_half_a_cache_line() {
        assert_eq!(size_of::<Entry>(), 32);
    }

    #[test]
    fn below_its_bound_everything_is_remembered() {
        let (prints, mut owners) = (Prints::new(), Owners::new(64 << 20, true));
        for number in 0..400_000_u32 {
            owners.put(prints.of(&number.to_be_bytes()), owner(number));
        }
        let known = (0..400_000_u32)
            .filter(|number| match owners.get(prints.of(&number.to_be_bytes())) {
                Some(found) => found == owner(*number) || panic!("another one's owner"),
                None => false,
            })
            .count();
        assert_eq!(known, 400_000);
        assert!(owners.is_complete());
        assert!(owners.bytes() < 400_000 * 52, "{}", owners.bytes());
    }

    #[test]
    fn at_its_bound_what_is_in_use_stays_through_a_pass_over_everything() {
        let (prints, mut owners) = (Prints::new(), Owners::new(2 << 20, true));
        let used: Vec<u32> = (0..10_000).collect();
        for number in 0..400_000_u32 {
            owners.put(prints.of(&number.to_be_bytes()), owner(number));
            let often = used[number as usize % used.len()];
            if owners.get(prints.of(&often.to_be_bytes())).is_none() {
                owners.put(prints.of(&often.to_be_bytes()), owner(often));
            }
        }
        assert!(owners.bytes() <= 2 << 20 && !owners.is_complete());
        let kept = used.iter().filter(|number| owners.get(prints.of(&number.to_be_bytes())).is_some()).count();
        assert!(kept > 9_000, "{kept}");
    }
}
