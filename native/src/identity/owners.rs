//! Who owns which external id, as far as it is remembered: 32 bytes an id, within a bound of bytes.
//!
//! A table of buckets in the way of a cuckoo's: an id stands in one of two buckets of four. It is cut
//! into shards that grow by an eighth, one at a time, so that growing never stops the stage for long and never needs twice the
//! memory; shards are made of pieces that serve any other one afterwards. At the bound, the entry in the last place of a
//! bucket gives way. An entry that is asked for moves a place forward; so what has been asked for only once goes first, and
//! a pass over many ids leaves those in use alone.
//!
//! It is a cache and nothing else: what it does not know is asked of the state, and what it knows is never wrong.

use bytemuck::{Pod, Zeroable};

use super::ids::{Print, ProfileId, SHARD_BITS};
use super::prefetch::prefetch;
use super::table::Pieces;

const PLACES: usize = 4;
/// Buckets of a piece, which is a page: most shards of a small space need no more than one.
const PIECE: usize = 32;
/// 64 MB, of which what is not needed yet takes no memory.
const PIECES_AT_A_TIME: usize = 1 << 14;
/// How often a shard tries more buckets, for the case that its entries find no room in an eighth more.
const GROWTHS_MAX: usize = 8;

#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C)]
struct Entry {
    /// 0: an empty place.
    low: u64,
    high: [u8; 3],
    owner: ProfileId,
}

impl Entry {
    #[inline]
    fn is(&self, print: Print) -> bool {
        self.low == print.low && self.high == print.high.to_le_bytes()[..3]
    }
}

type Bucket = [Entry; PLACES];

/// The memory of all shards.
type Room = Pieces<Bucket, PIECE, PIECES_AT_A_TIME>;

#[derive(Default)]
struct Shard {
    pieces: Vec<u32>,
    buckets: usize,
}

impl Shard {
    /// With so many buckets, all empty.
    fn new(buckets: usize, room: &mut Room) -> Self {
        Shard { pieces: (0..buckets.div_ceil(PIECE)).map(|_| room.take()).collect(), buckets }
    }

    fn give_back(self, room: &mut Room) {
        self.pieces.into_iter().for_each(|piece| room.give_back(piece));
    }

    #[inline]
    fn bucket<'a>(&self, bucket: usize, room: &'a Room) -> &'a Bucket {
        &room.piece(self.pieces[bucket / PIECE])[bucket % PIECE]
    }

    #[inline]
    fn bucket_mut<'a>(&self, bucket: usize, room: &'a mut Room) -> &'a mut Bucket {
        &mut room.piece_mut(self.pieces[bucket / PIECE])[bucket % PIECE]
    }

    /// The two buckets of a print, which two halves of it choose; there are none in a shard without buckets.
    #[inline]
    fn places(&self, low: u64) -> [usize; 2] {
        let count = self.buckets as u64;
        [((low & 0xffff_ffff) * count) >> 32, ((low >> 32) * count) >> 32].map(|bucket| bucket as usize)
    }

    /// Put an entry where there is room, into the emptier one of its buckets; if need be, another entry makes room for it
    /// that has some in its own other bucket. False if there is none.
    fn place(&self, entry: Entry, room: &mut Room) -> bool {
        if self.buckets == 0 {
            return false;
        }
        let free = |bucket| self.bucket(bucket, room).iter().filter(|entry| entry.low == 0).count();
        let [one, other] = self.places(entry.low);
        let emptier = if free(one) >= free(other) { one } else { other };
        if self.fill(emptier, entry, room) {
            return true;
        }
        for bucket in [one, other] {
            for place in 0..PLACES {
                let moved = self.bucket(bucket, room)[place];
                let [first, second] = self.places(moved.low);
                if self.fill(if first == bucket { second } else { first }, moved, room) {
                    self.bucket_mut(bucket, room)[place] = entry;
                    return true;
                }
            }
        }
        false
    }

    fn fill(&self, bucket: usize, entry: Entry, room: &mut Room) -> bool {
        match self.bucket_mut(bucket, room).iter_mut().find(|entry| entry.low == 0) {
            Some(free) => {
                *free = entry;
                true
            }
            None => false,
        }
    }

    /// The same entries in so many buckets; None if some of them find no room there.
    fn grown(&self, count: usize, room: &mut Room) -> Option<Shard> {
        let grown = Shard::new(count, room);
        for bucket in 0..self.buckets {
            for entry in *self.bucket(bucket, room) {
                if entry.low != 0 && !grown.place(entry, room) {
                    grown.give_back(room);
                    return None;
                }
            }
        }
        Some(grown)
    }
}

/// The cache of owners.
pub struct Owners {
    shards: Vec<Shard>,
    room: Room,
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
        let buckets_max = bytes_max / size_of::<Bucket>();
        Owners { shards, room: Room::new(), buckets: 0, buckets_max, complete, lossy: false }
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
        let shard = &self.shards[print.shard as usize];
        if shard.buckets == 0 {
            return None;
        }
        for bucket in shard.places(print.low) {
            let bucket = shard.bucket_mut(bucket, &mut self.room);
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

    /// Have what belongs to this print brought near.
    #[inline]
    pub fn touch(&self, print: Print) {
        let shard = &self.shards[print.shard as usize];
        if shard.buckets > 0 {
            for bucket in shard.places(print.low) {
                let bucket = shard.bucket(bucket, &self.room);
                prefetch(&bucket[0]);
                prefetch(&bucket[PLACES / 2]);
            }
        }
    }

    /// Remember the owner of an external id; another one that was remembered is forgotten.
    pub fn put(&mut self, print: Print, owner: ProfileId) {
        let high = print.high.to_le_bytes();
        let entry = Entry { low: print.low, high: [high[0], high[1], high[2]], owner };
        let (shard, room) = (&mut self.shards[print.shard as usize], &mut self.room);
        if shard.buckets > 0 {
            for bucket in shard.places(print.low) {
                if let Some(held) = shard.bucket_mut(bucket, room).iter_mut().find(|entry| entry.is(print)) {
                    held.owner = owner;
                    return;
                }
            }
        }
        if shard.place(entry, room) {
            return;
        }
        let mut more = 0;
        for _ in 0..GROWTHS_MAX {
            more += ((shard.buckets + more) / 8).max(1);
            if self.buckets + more > self.buckets_max {
                break;
            }
            if let Some(grown) = shard.grown(shard.buckets + more, room) {
                if grown.place(entry, room) {
                    std::mem::replace(shard, grown).give_back(room);
                    self.buckets += more;
                    return;
                }
                grown.give_back(room);
            }
        }
        (self.complete, self.lossy) = (false, true);
        if shard.buckets > 0 {
            let bucket = shard.places(print.low)[(print.high & 1) as usize];
            shard.bucket_mut(bucket, room)[PLACES - 1] = entry;
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
        assert!(owners.bytes() < 400_000 * 40, "{}", owners.bytes());
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
