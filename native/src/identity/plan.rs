//! What an event needs to know before anything is decided: who holds its identifiers, which of them a limit leaves out, which
//! profiles come together. Nothing here changes the graph.

use std::sync::Arc;

use super::demote::{demote, Asked, Demoted};
use super::graph::Need;
use super::ids::{Collection, ProfileId};
use super::output::Now;
use super::resolve::Walk;
use super::rules::Verdict;
use super::stored::Stored;

/// What resolution in one collection needs. No identifiers: nobody.
pub struct Plan {
    pub collection: Collection,
    pub kept: Vec<Asked>,
    pub demoted: Vec<Demoted>,
    pub blocked: Vec<usize>,
    /// Everybody who holds one of the kept ids, in order of creation; without its bytes where nothing comes to it.
    pub matched: Vec<(ProfileId, Option<Arc<[u8]>>)>,
}

pub type Parts<'p> = Vec<(ProfileId, Stored<'p>)>;

impl Plan {
    pub fn parts(&self) -> Result<Parts<'_>, Need> {
        let mut parts = Vec::with_capacity(self.matched.len());
        for (id, raw) in &self.matched {
            if let Some(raw) = raw {
                parts.push((*id, read(raw)?));
            }
        }
        Ok(parts)
    }
}

pub fn read(raw: &[u8]) -> Result<Stored<'_>, Need> {
    Stored::read(raw).map_err(|_| Need::Python)
}

impl Walk<'_> {
    /// Who holds these ids; blocked ones apart.
    pub fn ask(
        &mut self,
        collection: Collection,
        ids: std::ops::Range<usize>,
    ) -> Result<(Vec<Asked>, Vec<usize>), Need> {
        let mut asked = Vec::with_capacity(ids.len());
        let mut blocked = Vec::new();
        for id in ids {
            let found = self.ids[id];
            match found.verdict {
                Verdict::Free => {
                    let name = self.rules.name(found.type_);
                    let owner = self.graph.owner(found.print, collection, name, self.texts.get(found.value))?;
                    asked.push(Asked { id, type_: found.type_, owner });
                }
                Verdict::Blocked => blocked.push(id),
                Verdict::Ask => return Err(Need::Python),
            }
        }
        Ok((asked, blocked))
    }

    pub fn plan(
        &mut self,
        collection: Collection,
        asked: Vec<Asked>,
        blocked: Vec<usize>,
        now: &Now<'_>,
    ) -> Result<Plan, Need> {
        let mut plan = Plan { collection, kept: Vec::new(), demoted: Vec::new(), blocked, matched: Vec::new() };
        if let Some(owner) = sole_owner(&asked) {
            plan.kept = asked;
            plan.matched.push((owner, None));
            return Ok(plan);
        }
        for asked in &asked {
            if let Some(owner) = asked.owner.filter(|owner| plan.matched.iter().all(|(id, _)| id != owner)) {
                plan.matched.push((owner, Some(self.graph.profile(owner)?)));
            }
        }
        let parts = plan.parts()?;
        if parts.iter().any(|(_, stored)| stored.has_old_links) {
            return Err(Need::Python);
        }
        let (kept, demoted) = demote(&asked, &parts, now.time, self.rules).ok_or(Need::Python)?;
        let numbers: Vec<(ProfileId, i64)> = parts.iter().map(|(id, stored)| (*id, stored.number)).collect();
        let number = |id: ProfileId| numbers.iter().find(|(known, _)| *known == id).map(|(_, number)| *number);
        plan.matched.retain(|(id, _)| kept.iter().any(|asked| asked.owner == Some(*id)));
        plan.matched.sort_by_key(|(id, _)| number(*id));
        for (other, _) in plan.matched.iter().skip(1) {
            // Links move with their profiles: a matter for Python.
            if self.graph.has_links(*other)? {
                return Err(Need::Python);
            }
        }
        (plan.kept, plan.demoted) = (kept, demoted);
        Ok(plan)
    }

    /// Is a link to be made between user and account? Then the account as it is before the event, if there is one.
    pub fn links(&mut self, user: &Plan, account: &Plan) -> Result<Option<Option<Arc<[u8]>>>, Need> {
        if user.kept.is_empty() || account.kept.is_empty() {
            return Ok(None);
        }
        // Who the event goes to where a cap stands against a merger is known only later.
        if user.matched.len() > 1 || account.matched.len() > 1 {
            return Err(Need::Python);
        }
        let (Some((person, _)), Some((company, raw))) = (user.matched.first(), account.matched.first()) else {
            return Ok(Some(match account.matched.first() {
                None => None,
                Some((company, _)) => Some(self.graph.profile(*company)?),
            }));
        };
        if self.graph.is_linked(*person, *company)? {
            return Ok(None);
        }
        let person = self.graph.profile(*person)?;
        if read(&person)?.has_old_links {
            return Err(Need::Python);
        }
        Ok(Some(Some(match raw {
            Some(raw) => raw.clone(),
            None => self.graph.profile(*company)?,
        })))
    }
}

/// Who holds all of these ids, if one profile does.
pub fn sole_owner(asked: &[Asked]) -> Option<ProfileId> {
    let owner = asked.first()?.owner?;
    asked.iter().all(|asked| asked.owner == Some(owner)).then_some(owner)
}
