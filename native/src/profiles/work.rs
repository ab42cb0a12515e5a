//! One change after the other: what the core does between two calls of Python.

use std::fmt::Write;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use super::core::ProfileCore;
use super::event::Opened;
use super::outputs::{Cause, Topic};
use super::plan::Plan;
use super::profile::Profile;
use super::update::{fire, is_crowded, update, Room};
use crate::text::Instant;

/// As the draft reckons (`stages/profile_states.py`).
const NEW_PROFILE_BYTES: usize = 500;
const KEY_BYTES: usize = 50;
/// When a history is cut (`stages/history.py`).
const CUT_EVERY: usize = 250;
const CUT_SHARE: usize = 4;
const CUT_SHARE_NAMED: usize = 20;
/// How an entry begins that names its event and holds none: an array of one.
const NAMED: u8 = 0x91;
const CUT_BYTES: usize = 4 * 1024;
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
const SEQ_BITS: u32 = 24;
/// Profiles that were found crowded are left alone; so many are remembered.
const CROWDED_MAX: usize = 10_000;

/// A profile in the core's hands.
pub struct Held {
    pub profile: Profile,
    pub is_touched: bool,
    /// Bytes as last read or written; 0 for a new one.
    pub size: usize,
    /// Where the index of due times has it.
    pub place: Option<Instant>,
    pub is_moved: bool,
}

/// How much a step may still take.
#[derive(Clone, Copy)]
pub struct Budget {
    pub units: usize,
    pub bytes: usize,
}

/// Where a change stands in the log.
#[derive(Clone, Copy)]
pub struct Place {
    pub offset: i64,
    pub step: i64,
}

/// What came of a change.
pub enum Taken {
    Done { cut: bool },
    Left,
    Full,
}

impl ProfileCore {
    pub(super) fn is_full(&self, left: Budget) -> bool {
        self.units >= left.units || self.sent_bytes + self.pending_bytes >= left.bytes
    }

    /// Have the profile at hand, if there is one; False: it is one for the rooms.
    pub(super) fn borrow(&mut self, profile_id: &str, plan: &Plan, lend: &Bound<'_, PyAny>) -> PyResult<bool> {
        if self.waiting.contains(profile_id) || self.crowded.contains(profile_id) {
            return Ok(false);
        }
        let crowded = match self.profiles.get(profile_id) {
            Some(held) => !plan.bounded.is_empty() && is_crowded(&held.profile, plan),
            None => {
                let lent = lend.call1((profile_id,))?;
                if lent.is_none() {
                    return Ok(true);
                }
                let (raw, is_touched, size): (Bound<'_, PyBytes>, bool, usize) = lent.extract()?;
                let Ok(profile) = Profile::read(raw.as_bytes(), &mut self.names) else {
                    // The rooms have it again, with what they have not written yet.
                    lend.call1((profile_id, &lent))?;
                    self.leave_alone(profile_id);
                    return Ok(false);
                };
                let crowded = is_crowded(&profile, plan);
                let place = profile.due();
                if is_touched {
                    self.touched.push(profile_id.into());
                }
                let held = Held { profile, is_touched, size, place, is_moved: false };
                self.profiles.insert(profile_id.into(), held);
                crowded
            }
        };
        if crowded {
            self.leave_alone(profile_id);
        }
        Ok(!crowded)
    }

    fn leave_alone(&mut self, profile_id: &str) {
        if self.crowded.len() >= CROWDED_MAX {
            self.crowded.clear();
        }
        self.crowded.insert(profile_id.into());
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn take(
        &mut self,
        py: Python<'_>,
        event: Opened<'_>,
        plan: &Arc<Plan>,
        place: Place,
        left: Budget,
        lend: &Bound<'_, PyAny>,
        outputs: &Bound<'_, PyList>,
    ) -> PyResult<Taken> {
        if !self.borrow(&event.profile_id, plan, lend)? {
            return Ok(Taken::Left);
        }
        while let Some(due) = self.profiles.get(&event.profile_id).and_then(|held| held.profile.due()) {
            if due > event.now {
                break;
            }
            if self.is_full(left) {
                return Ok(Taken::Full);
            }
            self.fire_held(py, &event.profile_id, due, event.now, (place.step, event.record), plan, outputs)?;
        }
        let is_new = !self.profiles.contains_key(&event.profile_id);
        if is_new {
            let created = event.created.unwrap_or(event.time);
            let profile = Profile::new(&event.profile_id, event.is_user, created);
            let held = Held { profile, is_touched: false, size: 0, place: None, is_moved: false };
            self.profiles.insert(event.profile_id.clone(), held);
        }
        let Some(held) = self.profiles.get_mut(&event.profile_id) else { return Ok(Taken::Left) };
        let (profile_id, index) = (&*event.event.profile_id, event.index);
        let cause = Cause::new(false, event.time, event.now, &event.message_id, place.step, event.record);
        let mut room = Room { plan, names: &mut self.names, tally: &mut self.tally, told: &mut self.told };
        update(&mut held.profile, &event, is_new, &mut room, &cause);
        let cut = self.add_history(event, plan, place.step);
        self.touched(profile_id);
        self.send(py, profile_id, format_args!("{}/{}", place.offset, index), outputs)?;
        self.units += 1;
        Ok(Taken::Done { cut })
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn fire_held(
        &mut self,
        py: Python<'_>,
        profile_id: &str,
        instant: Instant,
        now: Instant,
        (step, record): (i64, i64),
        plan: &Arc<Plan>,
        outputs: &Bound<'_, PyList>,
    ) -> PyResult<()> {
        let Some(held) = self.profiles.get_mut(profile_id) else { return Ok(()) };
        let cause = Cause::new(true, instant, now, "", step, record);
        let mut room = Room { plan, names: &mut self.names, tally: &mut self.tally, told: &mut self.told };
        fire(&mut held.profile, instant, &mut room, &cause);
        self.touched(profile_id);
        self.send(py, profile_id, format_args!("due/{instant}/{profile_id}"), outputs)?;
        self.units += 1;
        Ok(())
    }

    /// The profile is to be written, and has its place in the index looked at.
    fn touched(&mut self, profile_id: &str) {
        let Some(held) = self.profiles.get_mut(profile_id) else { return };
        if !held.is_touched {
            held.is_touched = true;
            self.touched.push(profile_id.into());
            self.pending_bytes += if held.size == 0 { NEW_PROFILE_BYTES } else { held.size };
        }
        if !held.is_moved && held.profile.due() != held.place {
            held.is_moved = true;
            self.moved.push(profile_id.into());
        }
    }

    /// Remember that the event belongs to the profile; whether its history is to be cut now.
    fn add_history(&mut self, event: Opened<'_>, plan: &Plan, step: i64) -> bool {
        let size = event.entry.len();
        let share = if event.entry.first() == Some(&NAMED) { CUT_SHARE_NAMED } else { CUT_SHARE };
        self.pending_bytes += size + KEY_BYTES;
        let seq = (step as u64) << SEQ_BITS | event.record as u64;
        self.history.push((event.event.profile_id.clone(), seq, event.entry));
        let drawn = (seq.wrapping_mul(SPREAD) >> 32) as usize;
        drawn % CUT_EVERY.max(plan.retained_events / share) <= size / CUT_BYTES
    }

    /// Append what was told as records; `about`: the middle of their `src`.
    fn send(
        &mut self,
        py: Python<'_>,
        profile_id: &str,
        about: std::fmt::Arguments<'_>,
        outputs: &Bound<'_, PyList>,
    ) -> PyResult<()> {
        if self.told.outputs.is_empty() {
            return Ok(());
        }
        let key = PyBytes::new(py, profile_id.as_bytes());
        let mut src = format!("profiles/{}/{about}/", self.partition);
        let begun = src.len();
        for (number, (topic, span)) in self.told.outputs.drain(..).enumerate() {
            self.sent_bytes += span.len();
            let topic = self.topics.entry(topic).or_insert_with_key(|topic| {
                let name = match topic {
                    Topic::TraitChanges => "trait-changes",
                    Topic::AudienceChanges => "audience-changes",
                    Topic::Destination(name) => name,
                };
                PyString::intern(py, name).unbind()
            });
            src.truncate(begun);
            let _ = write!(src, "{number}");
            let value = PyBytes::new(py, &self.told.text[span]);
            outputs.append(self.record.bind(py).call1((&*topic, self.partition, &key, value, &src))?)?;
        }
        self.told.text.clear();
        Ok(())
    }
}
