//! Consent per purpose: what is allowed on a day. Twin: `enrichment/customer/consent.py`.

use crate::days::{day_of, midnight_us, FOREVER_DAY};
use crate::events::Consent;

const BEFORE_ALL_US: i64 = -(1 << 62);
const NEVER_US: i64 = 1 << 62;

/// One consent given or withdrawn.
#[derive(Clone, PartialEq)]
pub struct ConsentRecord {
    pub occurred_at_us: i64,
    pub granted: bool,
    pub event_id: Box<str>,
    pub expires_at_us: Option<i64>,
}

impl ConsentRecord {
    fn key(&self) -> (i64, bool, &str) {
        (self.occurred_at_us, !self.granted, &self.event_id)
    }

    fn last_day(&self) -> i64 {
        self.expires_at_us.map_or(FOREVER_DAY, day_of)
    }

    fn granted_until_day(&self) -> i64 {
        if self.granted {
            self.last_day()
        } else {
            -1
        }
    }
}

/// One customer's consents; `latest` is in the order of purposes.
pub struct ConsentState {
    pub latest: Vec<(u32, ConsentRecord)>,
    pub profiling: Vec<ConsentRecord>,
    pub enforced_from_us: i64,
}

impl Default for ConsentState {
    fn default() -> Self {
        ConsentState {
            latest: Vec::new(),
            profiling: Vec::new(),
            enforced_from_us: BEFORE_ALL_US,
        }
    }
}

impl ConsentState {
    /// Enter one accepted consent to `purpose`.
    pub fn apply(
        &mut self,
        consent: &Consent,
        purpose: u32,
        is_profiling: bool,
        occurred_at_us: i64,
        event_id: &str,
    ) {
        let record = ConsentRecord {
            occurred_at_us,
            granted: consent.granted,
            event_id: event_id.into(),
            expires_at_us: consent.expires_at_us,
        };
        if is_profiling {
            self.enter_profiling(record.clone());
        }
        let at = self.latest.partition_point(|(known, _)| *known < purpose);
        match self.latest.get_mut(at) {
            Some((known, latest)) if *known == purpose => {
                if record.key() > latest.key() {
                    *latest = record;
                }
            }
            _ => self.latest.insert(at, (purpose, record)),
        }
    }

    /// Every purpose held, with the last day on which it is granted, in order.
    pub fn granted_until(&self) -> impl Iterator<Item = (u32, i64)> + '_ {
        self.latest
            .iter()
            .map(|(purpose, record)| (*purpose, record.granted_until_day()))
    }

    /// The last day on which profiling is allowed.
    pub fn profiling_until_day(&self, profiling: u32, is_opt_in: bool) -> i64 {
        let latest = self
            .latest
            .iter()
            .find(|(purpose, _)| *purpose == profiling);
        match (latest, is_opt_in) {
            (None, false) => FOREVER_DAY,
            (Some((_, record)), false) if record.granted => FOREVER_DAY,
            (Some((_, record)), true) => record.granted_until_day(),
            _ => -1,
        }
    }

    /// The time from which on engagement may be kept, where it is later than what has been enforced so far.
    pub fn newly_denied_until(&mut self, is_opt_in: bool, day: i64) -> Option<i64> {
        let keep_from_us = self.denied_until_us(is_opt_in, day);
        let enforced_from_us = std::mem::replace(&mut self.enforced_from_us, keep_from_us);
        (keep_from_us > enforced_from_us).then_some(keep_from_us)
    }

    /// The end of the latest period in which profiling was not allowed, as seen on a day.
    pub fn denied_until_us(&self, is_opt_in: bool, day: i64) -> i64 {
        if !is_opt_in {
            return match self.profiling.as_slice() {
                [denial, ..] if denial.granted => BEFORE_ALL_US,
                [] => BEFORE_ALL_US,
                [_, grant, ..] => grant.occurred_at_us,
                [_] => NEVER_US,
            };
        }
        let (mut end_us, mut allowed_until_day) = (NEVER_US, -1);
        for record in &self.profiling {
            if !record.granted {
                (end_us, allowed_until_day) = (NEVER_US, -1);
                continue;
            }
            if record.occurred_at_us >= midnight_us(allowed_until_day + 1) || end_us == NEVER_US {
                end_us = record.occurred_at_us;
            }
            allowed_until_day = record.last_day();
        }
        if day > allowed_until_day {
            NEVER_US
        } else {
            end_us
        }
    }

    /// What would be held had no record dated up to this time come; of engagement nothing has been deleted yet.
    pub fn after(&self, time_us: i64) -> Self {
        let later = |record: &ConsentRecord| record.occurred_at_us > time_us;
        let latest = self.latest.iter().filter(|(_, record)| later(record));
        let profiling = self.profiling.iter().filter(|record| later(record));
        ConsentState {
            latest: latest.cloned().collect(),
            profiling: profiling.cloned().collect(),
            ..ConsentState::default()
        }
    }

    /// Put a record in its place; all before the latest denial go.
    fn enter_profiling(&mut self, record: ConsentRecord) {
        let at = self
            .profiling
            .partition_point(|known| known.key() < record.key());
        if self.profiling.get(at) == Some(&record) {
            return;
        }
        if at == 0 && self.profiling.first().is_some_and(|first| !first.granted) {
            return;
        }
        let is_denial = !record.granted;
        self.profiling.insert(at, record);
        if is_denial {
            self.profiling.drain(..at);
        }
    }
}
