//! Limits: which of the event's identifiers must stay out, so that no profile holds too many of a type? As
//! `identity.demote`.

use super::ids::ProfileId;
use super::rules::{Rules, TypeNumber};
use super::stored::Stored;
use crate::text::Instant;

/// An identifier of the event, by its place among the slice's, and who holds it now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    pub id: usize,
    pub type_: TypeNumber,
    pub owner: Option<ProfileId>,
}

/// An identifier that was left out. `timed`: the limit that broke counts within a period.
pub struct Demoted {
    pub id: usize,
    pub timed: bool,
}

/// The identifiers that stay, in extraction order, and those that do not, in order of leaving. None: rules that cannot be met,
/// a matter for Python.
pub fn demote(
    asked: &[Asked],
    profiles: &[(ProfileId, Stored<'_>)],
    time: Instant,
    rules: &Rules,
) -> Option<(Vec<Asked>, Vec<Demoted>)> {
    let mut kept = asked.to_vec();
    let mut demoted = Vec::new();
    for _ in 1..asked.len() {
        let matched: Vec<&Stored<'_>> = profiles
            .iter()
            .filter(|(id, _)| kept.iter().any(|asked| asked.owner == Some(*id)))
            .map(|(_, stored)| stored)
            .collect();
        let broken = broken(&matched, &kept, time, rules);
        if broken.is_empty() {
            break;
        }
        let place =
            if rules.minimal { lowest_candidate(&kept, &broken, rules)? } else { lowest(&kept, rules, |_| true)? };
        let out = kept.remove(place);
        let timed = broken.iter().any(|type_| rules.limit(type_).period.is_some());
        demoted.push(Demoted { id: out.id, timed });
    }
    Some((kept, demoted))
}

struct Count<'a> {
    type_: &'a str,
    total: usize,
    /// The most that one of the matched profiles holds now.
    most: usize,
}

/// Types of which the resulting profile would hold more than the limit, and more than any matched one does now.
fn broken<'a>(matched: &[&Stored<'a>], kept: &[Asked], time: Instant, rules: &'a Rules) -> Vec<&'a str> {
    let new = || kept.iter().filter(|asked| asked.owner.is_none());
    if matched.len() < 2 && new().next().is_none() {
        return Vec::new();
    }
    let mut counts: Vec<Count<'a>> = Vec::new();
    for stored in matched {
        let mut held: Vec<(&str, usize)> = Vec::new();
        for mapping in stored.mappings() {
            // Of types of which nothing comes, a profile alone holds no more than it does now.
            if matched.len() < 2 && !new().any(|asked| rules.name(asked.type_) == mapping.type_) {
                continue;
            }
            let period = rules.limit(mapping.type_).period;
            if period.is_some_and(|period| mapping.mapped_at <= time - period) {
                continue;
            }
            match held.iter_mut().find(|(type_, _)| *type_ == mapping.type_) {
                Some((_, count)) => *count += 1,
                None => held.push((mapping.type_, 1)),
            }
        }
        for (type_, count) in held {
            let known = count_of(&mut counts, type_);
            known.total += count;
            known.most = known.most.max(count);
        }
    }
    for asked in new() {
        count_of(&mut counts, rules.name(asked.type_)).total += 1;
    }
    counts.retain(|count| count.total > rules.limit(count.type_).count && count.total > count.most);
    counts.into_iter().map(|count| count.type_).collect()
}

fn count_of<'a, 'c>(counts: &'c mut Vec<Count<'a>>, type_: &'a str) -> &'c mut Count<'a> {
    let place = counts.iter().position(|count| count.type_ == type_).unwrap_or_else(|| {
        counts.push(Count { type_, total: 0, most: 0 });
        counts.len() - 1
    });
    &mut counts[place]
}

/// The lowest of those that can cause the conflict: new values of a broken type, and ids of other profiles than that of the
/// event's most trusted id, which itself always stays.
fn lowest_candidate(kept: &[Asked], broken: &[&str], rules: &Rules) -> Option<usize> {
    let best = *kept.iter().min_by_key(|asked| rules.rank(asked.type_))?;
    lowest(kept, rules, |asked| {
        asked.id != best.id
            && match asked.owner {
                None => broken.contains(&rules.name(asked.type_)),
                owner => owner != best.owner,
            }
    })
}

/// The place of the least trusted; inside one type of the last extracted.
fn lowest(kept: &[Asked], rules: &Rules, among: impl Fn(&Asked) -> bool) -> Option<usize> {
    // Of several greatest ones, the last is taken.
    (0..kept.len()).filter(|&place| among(&kept[place])).max_by_key(|&place| rules.rank(kept[place].type_))
}
