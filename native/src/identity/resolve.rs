//! Whose event is it? As `identity.resolve`: first everything is found out that the event needs (`plan`), then it is
//! decided, and nothing can stop it any more (`decide`).

use std::sync::Arc;

use super::demote::Asked;
use super::event::{Call, Event, FoundId};
use super::graph::{Graph, Need};
use super::ids::{Collection, ProfileId};
use super::output::{Decision, Now, Output, Telling};
use super::plan::{read, sole_owner, Plan};
use super::rules::Rules;
use super::stored::{Making, Mapping, Stored};
use super::texts::Texts;
use crate::text::Derive;

const BLOCKED: &str = "ID value blocked";
const LIMIT_EXCEEDED: &str = "Identifier value limit exceeded";
const TIME_LIMIT_EXCEEDED: &str = "Identifier value time limit exceeded";
const MERGE_CAP: &str = "Profile merge limit exceeded";
const MAPPING_CAP: &str = "Identifier mapping limit exceeded";

/// One event's resolution.
pub struct Walk<'a> {
    pub rules: &'a Rules,
    pub graph: &'a mut Graph,
    pub out: &'a mut Output,
    pub texts: &'a Texts,
    pub ids: &'a [FoundId],
    /// The source may map and merge identifiers.
    pub identity: bool,
}

/// Whose the event is, in one collection.
struct Resolved<'a> {
    profile: ProfileId,
    created: bool,
    absorbed: Vec<ProfileId>,
    mapped: Vec<(&'a str, &'a str)>,
}

impl<'a> Walk<'a> {
    fn pair(&self, id: usize) -> (&'a str, &'a str) {
        let found = &self.ids[id];
        (self.rules_name(found), self.texts.text(found.value))
    }

    fn rules_name(&self, found: &FoundId) -> &'a str {
        let rules: &'a Rules = self.rules;
        rules.name(found.type_)
    }

    /// The most trusted first; inside one type in order of extraction.
    fn ranked(&self, asked: impl Iterator<Item = Asked>) -> Vec<Asked> {
        let mut ranked: Vec<Asked> = asked.collect();
        ranked.sort_by_key(|asked| self.rules.rank(asked.type_));
        ranked
    }

    /// Resolve the event and tell its profiles; or say what that needs, and nothing has been done. `mark`: it has not been
    /// seen before, and is marked now.
    pub fn take(&mut self, event: &Event, now: &Now<'_>, mark: impl FnOnce(&mut Graph)) -> Result<(), Need> {
        let (users, blocked) = self.ask(Collection::Users, event.users.clone())?;
        if event.call != Call::Group && blocked.is_empty() {
            if let Some(owner) = sole_owner(&users) {
                mark(self.graph);
                self.tell(event, Collection::Users, &Resolved::known(owner), now);
                self.out.count("event", event.call.name(), None);
                return Ok(());
            }
        }
        let (accounts, blocked_accounts) = self.ask(Collection::Accounts, event.accounts.clone())?;
        if users.is_empty() && accounts.is_empty() {
            return Err(Need::Python);
        }
        if !self.identity {
            return self.attach(event, &users, &accounts, (&blocked, &blocked_accounts), now, mark);
        }
        let user = self.plan(Collection::Users, users, blocked, now)?;
        let account = self.plan(Collection::Accounts, accounts, blocked_accounts, now)?;
        let links = self.links(&user, &account)?;
        let (user_parts, account_parts) = (user.parts()?, account.parts()?);
        mark(self.graph);
        let user = self.decide(&user, &user_parts, now);
        let account = self.decide(&account, &account_parts, now);
        if let (Some(user), Some(account), Some(company)) = (&user, &account, links) {
            self.link(user.profile, account, company.as_deref(), now);
        }
        for (collection, resolved) in [(Collection::Users, user), (Collection::Accounts, account)] {
            if let Some(resolved) = resolved {
                self.tell(event, collection, &resolved, now);
            }
        }
        self.out.count("event", event.call.name(), None);
        Ok(())
    }

    /// An event of a source without identity: it goes where its most trusted known id points, and changes nothing.
    fn attach(
        &mut self,
        event: &Event,
        users: &[Asked],
        accounts: &[Asked],
        blocked: (&[usize], &[usize]),
        now: &Now<'_>,
        mark: impl FnOnce(&mut Graph),
    ) -> Result<(), Need> {
        let most_trusted =
            |asked: &[Asked]| self.ranked(asked.iter().copied()).into_iter().find_map(|asked| asked.owner);
        let (user, account) = (most_trusted(users), most_trusted(accounts));
        if user.is_none() && account.is_none() {
            return Err(Need::Python);
        }
        mark(self.graph);
        self.block(blocked.0, user.map(|user| (user, Collection::Users)), now);
        self.block(blocked.1, account.map(|account| (account, Collection::Accounts)), now);
        for (collection, owner) in [(Collection::Users, user), (Collection::Accounts, account)] {
            if let Some(owner) = owner {
                self.tell(event, collection, &Resolved::known(owner), now);
            }
        }
        self.out.count("event", event.call.name(), None);
        Ok(())
    }

    fn block(&mut self, blocked: &[usize], profile: Option<(ProfileId, Collection)>, now: &Now<'_>) {
        for &id in blocked {
            let identifiers = &[self.pair(id)];
            let decision =
                Decision { name: "value_blocked", profile, identifiers, violation: BLOCKED, ..Decision::default() };
            self.out.decide(decision, now);
        }
    }

    fn decide(&mut self, plan: &Plan, parts: &[(ProfileId, Stored<'_>)], now: &Now<'_>) -> Option<Resolved<'a>> {
        if plan.kept.is_empty() {
            self.block(&plan.blocked, None, now);
            return None;
        }
        let collection = plan.collection;
        let resolved = match (&plan.matched[..], parts) {
            ([], _) => self.create(plan, now),
            ([(owner, None)], _) => Resolved::known(*owner),
            (_, [(id, stored)]) => self.add(collection, (*id, *stored), plan, now),
            _ => self.merge(plan, parts, now),
        };
        let profile = Some((resolved.profile, collection));
        self.block(&plan.blocked, profile, now);
        for out in &plan.demoted {
            let violation = if out.timed { TIME_LIMIT_EXCEEDED } else { LIMIT_EXCEEDED };
            let demoted = Some(self.pair(out.id));
            self.out.decide(
                Decision { name: "identifier_demoted", profile, demoted, violation, ..Decision::default() },
                now,
            );
        }
        Some(resolved)
    }

    fn create(&mut self, plan: &Plan, now: &Now<'_>) -> Resolved<'a> {
        let topic = now.topic;
        let place = format!("{}/{}/{}/{}", topic.name, topic.id, now.partition, now.offset);
        let mut id = *b"use_000000000000000000000000000";
        let mut hash = Derive::new();
        for part in ["profile", &self.rules.space, plan.collection.name(), now.message_id, &place] {
            hash.part(part.as_bytes());
        }
        id[4..].copy_from_slice(&hash.base62());
        // Base 62 digits always make an id.
        let profile = ProfileId::pack(&id).unwrap_or(ProfileId::NONE);
        let making = Making {
            id: profile,
            collection: plan.collection,
            number: self.graph.profiles_count,
            created: now.time,
            merges: 0,
            parts: &[],
            new: &[],
        };
        self.graph.profiles_count += 1;
        let decision =
            Decision { name: "profile_created", profile: Some((profile, plan.collection)), ..Decision::default() };
        self.out.decide(decision, now);
        let mapped = self.map(making, plan, now);
        Resolved { profile, created: true, absorbed: Vec::new(), mapped }
    }

    fn add(
        &mut self,
        collection: Collection,
        part: (ProfileId, Stored<'_>),
        plan: &Plan,
        now: &Now<'_>,
    ) -> Resolved<'a> {
        let (id, stored) = part;
        let making = Making {
            id,
            collection,
            number: stored.number,
            created: stored.created,
            merges: stored.merges,
            parts: &[part],
            new: &[],
        };
        Resolved { mapped: self.map(making, plan, now), ..Resolved::known(id) }
    }

    /// Map identifiers that nobody owns, best rank first, until the mapping cap; and store the profile.
    fn map(&mut self, making: Making<'_>, plan: &Plan, now: &Now<'_>) -> Vec<(&'a str, &'a str)> {
        let held: usize = making.parts.iter().map(|(_, part)| part.mappings_count()).sum();
        let room = self.rules.mappings_max.saturating_sub(held);
        let ranked = self.ranked(plan.kept.iter().filter(|asked| asked.owner.is_none()).copied());
        let (mapped, beyond) = ranked.split_at(room.min(ranked.len()));
        let profile = Some((making.id, making.collection));
        let mut pairs = Vec::with_capacity(mapped.len());
        for asked in mapped {
            let pair = self.pair(asked.id);
            self.graph.put_owner(self.ids[asked.id].print, making.collection, pair.0, pair.1, making.id);
            let identifiers = &[pair];
            self.out.decide(Decision { name: "identifier_mapped", profile, identifiers, ..Decision::default() }, now);
            pairs.push(pair);
        }
        if !beyond.is_empty() {
            let identifiers: Vec<_> = beyond.iter().map(|asked| self.pair(asked.id)).collect();
            let identifiers = &identifiers[..];
            let decision =
                Decision { name: "cap_reached", profile, identifiers, violation: MAPPING_CAP, ..Decision::default() };
            self.out.decide(decision, now);
        }
        if !pairs.is_empty() || making.parts.len() > 1 {
            let new: Vec<Mapping<'_>> = pairs
                .iter()
                .map(|&(type_, value)| Mapping { type_, value, mapped_at: now.time, message_id: now.message_id })
                .collect();
            let id = making.id;
            self.graph.put_profile(id, Arc::from(Making { new: &new, ..making }.encode()));
        }
        pairs
    }

    /// Fold the later profiles into the first, unless that would break a cap.
    fn merge(&mut self, plan: &Plan, parts: &[(ProfileId, Stored<'_>)], now: &Now<'_>) -> Resolved<'a> {
        let known = || plan.kept.iter().filter(|asked| asked.owner.is_some()).copied();
        let identifiers: Vec<_> = known().map(|asked| self.pair(asked.id)).collect();
        let identifiers = &identifiers[..];
        let new = plan.kept.len() - identifiers.len();
        let merges = parts.iter().map(|(_, part)| part.merges).sum::<u64>() + parts.len() as u64 - 1;
        let mappings = parts.iter().map(|(_, part)| part.mappings_count()).sum::<usize>() + new;
        let violation = match () {
            () if merges > self.rules.merges_max => MERGE_CAP,
            () if mappings > self.rules.mappings_max => MAPPING_CAP,
            () => "",
        };
        let collection = plan.collection;
        if !violation.is_empty() {
            // No merge, not even a partial one: the event goes to the owner of its most trusted id.
            let owner = self.ranked(known()).first().and_then(|asked| asked.owner);
            let home = parts.iter().find(|(id, _)| Some(*id) == owner).copied().unwrap_or(parts[0]);
            let profile = Some((home.0, collection));
            self.out
                .decide(Decision { name: "cap_reached", profile, identifiers, violation, ..Decision::default() }, now);
            return self.add(collection, home, plan, now);
        }
        let (survivor, stored) = parts[0];
        let mut absorbed = Vec::with_capacity(parts.len() - 1);
        for (other, part) in &parts[1..] {
            for mapping in part.mappings() {
                self.graph.put_owner_of(collection, mapping.type_, mapping.value, survivor);
            }
            for gone in std::iter::once(Some(*other)).chain(part.absorbed()).flatten() {
                self.graph.redirect(gone, survivor);
            }
            absorbed.push(*other);
        }
        let profile = Some((survivor, collection));
        let decision =
            Decision { name: "profiles_merged", profile, identifiers, absorbed: &absorbed, ..Decision::default() };
        self.out.decide(decision, now);
        let (number, created) = (stored.number, stored.created);
        let making = Making { id: survivor, collection, number, created, merges, parts, new: &[] };
        let mapped = self.map(making, plan, now);
        Resolved { profile: survivor, created: false, absorbed, mapped }
    }

    /// User and account come to know each other. `before`: the account as it was before the event, if there was one.
    fn link(&mut self, person: ProfileId, company: &Resolved<'a>, before: Option<&[u8]>, now: &Now<'_>) {
        let stored = before.and_then(|raw| read(raw).ok());
        let held = stored.iter().flat_map(|stored| stored.mappings().map(|mapping| (mapping.type_, mapping.value)));
        let group: Vec<(&str, &str)> =
            held.chain(company.mapped.iter().copied()).filter(|(type_, _)| *type_ == "group_id").collect();
        let profile = Some((person, Collection::Users));
        self.out.decide(Decision { name: "account_linked", profile, identifiers: &group, ..Decision::default() }, now);
        self.graph.put_link(person, company.profile, true);
    }

    fn tell(&mut self, event: &Event, collection: Collection, resolved: &Resolved<'_>, now: &Now<'_>) {
        if !resolved.absorbed.is_empty() {
            self.out.tell_merger(resolved.profile, &resolved.absorbed, now);
        }
        let telling = Telling {
            profile: resolved.profile,
            collection,
            created: resolved.created.then_some(now.time),
            mapped: &resolved.mapped,
        };
        self.out.tell(&telling, event, self.texts, now);
    }
}

impl Resolved<'_> {
    fn known(profile: ProfileId) -> Self {
        Resolved { profile, created: false, absorbed: Vec::new(), mapped: Vec::new() }
    }
}
