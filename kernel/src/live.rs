//! A worker's records and midnights, with the decisions. Twin: `Enricher.process` and `Enricher.advance` of
//! `enrichment/enricher.py`, and `deciding/timers.py`.
//!
//! Each record is decided on at once, and each midnight by itself; the Python core does both for many at a time.

use crate::customer::{Catalogue, Customer, Effect};
use crate::days::{day_of, midnight_us, write_time};
use crate::decision::Decision;
use crate::documents::{Cause, Writer};
use crate::engagement::Held;
use crate::enter::decision_json;
use crate::events::{Answer, Event, Record};
use crate::lifetime::Predictor;
use crate::model::Model;
use crate::output::Output;
use crate::part::{too_late, Outcomes, ReadPart};
use crate::scores::Row;
use crate::state::pack;
use crate::walk::{declared_intent, Exactly, Walker};
use crate::Declined;

/// So many midnights are passed one by one; longer silences are passed at once by Python.
const MOST_DAYS_BEHIND: i64 = 2_000;
/// Days looked at ahead: the longer a customer has been quiet, the farther it pays to look.
const LEAST_DAYS_AHEAD: i64 = 8;
const MOST_DAYS_AHEAD: i64 = 64;

/// What is to be stored and published of a part.
pub struct Lived {
    pub outcomes: Outcomes,
    pub changes: Vec<Change>,
    pub triggers: Vec<Vec<u8>>,
    pub triggers_dropped: u64,
    /// Changes by dimension, direction and trigger.
    pub change_counts: Vec<((&'static str, &'static str, &'static str), u64)>,
    pub customers: Vec<LivedState>,
}

/// A segment change.
pub struct Change {
    /// The place among the customers.
    pub customer: usize,
    pub id: String,
    pub as_of: String,
    pub value: Vec<u8>,
    /// Where the record was that brought it, and when that occurred; None of a midnight.
    pub record: Option<(usize, i64)>,
}

/// A version of a profile.
pub struct Profile {
    pub as_of: String,
    pub sequence: i64,
    pub value: Vec<u8>,
}

/// One customer after a part.
pub struct LivedState {
    /// The place among the customers.
    pub customer: usize,
    /// The state, if it changed.
    pub bytes: Option<Vec<u8>>,
    /// None for one of whom nothing but an erasure is known, if that.
    pub due_day: Option<i64>,
    pub profile: Option<Profile>,
    /// When the profile ended that was there before.
    pub tombstone_us: Option<i64>,
    /// The decision as JSON, if it changed; empty where nothing is known any more.
    pub decision: Option<Vec<u8>>,
    pub erased: Option<(i64, i64)>,
}

/// Take the records of a part, after all midnights up to that of a day; `filed` are later due days than the states'.
pub fn live(
    part: ReadPart,
    filed: &[(usize, i64)],
    midnight_day: i64,
    fingerprint: &str,
    model: &Model,
    exactly: &dyn Exactly,
    predictor: &mut Predictor,
) -> Result<Lived, Declined> {
    let ReadPart {
        names,
        mut customers,
        records,
        catalogue,
        points,
    } = part;
    for &(at, day) in filed {
        let customer: &mut Customer = customers
            .get_mut(at)
            .ok_or(Declined("a customer that there is not"))?;
        customer.due_day = customer.due_day.map(|due_day| due_day.max(day));
    }
    let noted = customers.iter().map(|_| Noted::default()).collect();
    let mut living = Living {
        walker: Walker {
            model,
            catalogue: &catalogue,
            exactly,
            end_us: 0,
            predictor,
            points,
            output: Output::default(),
        },
        fingerprint,
        midnight_day,
        noted,
        changes: Vec::new(),
        triggers: Vec::new(),
    };
    for (at, customer) in customers.iter_mut().enumerate() {
        living.advance(at, &names[at], customer)?;
    }
    let mut outcomes = Outcomes::default();
    for (row, record) in &records {
        let at = record.customer as usize;
        let (outcome, why) = living.take(at, &names[at], &mut customers[at], *row, record)?;
        outcomes.note(*row, record.topic, outcome, why);
    }
    let Living {
        walker,
        noted,
        changes,
        triggers,
        ..
    } = living;
    let states = noted
        .into_iter()
        .zip(&customers)
        .enumerate()
        .map(|(at, (noted, customer))| state_of(at, noted, customer, &catalogue, model))
        .collect();
    Ok(Lived {
        outcomes,
        changes,
        triggers,
        triggers_dropped: walker.output.triggers_dropped,
        change_counts: walker.output.change_counts.into_iter().collect(),
        customers: states,
    })
}

fn state_of(
    at: usize,
    noted: Noted,
    customer: &Customer,
    catalogue: &Catalogue,
    model: &Model,
) -> LivedState {
    let decision = &customer.decision;
    LivedState {
        customer: at,
        bytes: noted.is_touched.then(|| pack(customer, catalogue, model)),
        due_day: customer.due_day.filter(|_| customer.is_known()),
        profile: noted.profile,
        tombstone_us: noted.tombstone_us,
        decision: noted.is_decided.then(|| {
            if customer.is_known() {
                decision_json(decision)
            } else {
                Vec::new()
            }
        }),
        erased: noted
            .tombstone_us
            .and(decision.erased_up_to_us)
            .map(|erased_us| (decision.life, erased_us)),
    }
}

/// What is to be told of one customer.
#[derive(Default)]
struct Noted {
    is_touched: bool,
    is_decided: bool,
    profile: Option<Profile>,
    tombstone_us: Option<i64>,
}

/// Why a customer is looked at, and as of when.
struct Look<'a> {
    as_of_us: i64,
    cause: Cause<'a>,
    record: Option<(usize, i64)>,
}

struct Living<'a> {
    walker: Walker<'a>,
    fingerprint: &'a str,
    midnight_day: i64,
    noted: Vec<Noted>,
    changes: Vec<Change>,
    triggers: Vec<Vec<u8>>,
}

impl<'a> Living<'a> {
    fn writer<'b>(&self, id: &'b str) -> Writer<'b>
    where
        'a: 'b,
    {
        Writer {
            model: self.walker.model,
            catalogue: self.walker.catalogue,
            customer_id: id,
        }
    }

    /// Pass every midnight up to the last one that has passed, and file the next day on which anything can happen.
    fn advance(&mut self, at: usize, id: &str, customer: &mut Customer) -> Result<(), Declined> {
        let Some(latest_us) = customer.latest_us else {
            return Ok(());
        };
        let known = customer.decision.model.as_deref();
        if known.is_some_and(|model| model != self.fingerprint) {
            self.reconsider(at, id, customer)?;
        }
        let Some(first_day) = customer.due_day.filter(|&day| day <= self.midnight_day) else {
            return Ok(());
        };
        if self.midnight_day - first_day > MOST_DAYS_BEHIND {
            return Err(Declined("a silence of many years"));
        }
        if first_day <= day_of(latest_us) {
            return Err(Declined("a due day before the newest record"));
        }
        for day in first_day..=self.midnight_day {
            self.pass(at, id, customer, day)?;
        }
        let quiet_days = first_day - day_of(latest_us);
        let ahead_days = quiet_days.clamp(LEAST_DAYS_AHEAD, MOST_DAYS_AHEAD);
        let end_day = (first_day + ahead_days).max(self.midnight_day + 1);
        customer.due_day = Some(self.next_day(customer, end_day)?);
        Ok(())
    }

    /// The first day to come on which anything happens, or the end of those that are looked at.
    fn next_day(&mut self, customer: &Customer, end_day: i64) -> Result<i64, Declined> {
        let decision = &customer.decision;
        let pending_day = decision.pending.as_ref().map(|pending| pending.due_day);
        for day in self.midnight_day + 1..end_day {
            if pending_day.is_some_and(|pending_day| pending_day <= day) {
                return Ok(day);
            }
            let row = self.walker.evaluate(customer, day)?;
            if self.walker.standing_at(decision, &row) != decision.standing {
                return Ok(day);
            }
        }
        Ok(end_day)
    }

    fn pass(
        &mut self,
        at: usize,
        id: &str,
        customer: &mut Customer,
        day: i64,
    ) -> Result<(), Declined> {
        let mut row = self.walker.evaluate(customer, day)?;
        let mut trigger = "time";
        if customer.decision.standing.is_some() && !row.profiling_allowed {
            // Engagement kept by the consent that ended is deleted; this row would still show it.
            self.forget_unallowed(customer, day)?;
            row = self.walker.evaluate(customer, day)?;
            trigger = "consent";
        }
        let look = Look {
            as_of_us: midnight_us(day),
            cause: Cause {
                trigger,
                event_id: None,
            },
            record: None,
        };
        self.decide(at, id, customer, &row, &look);
        let pending = customer.decision.pending.as_ref();
        if trigger == "time" && pending.is_some_and(|pending| pending.due_day <= day) {
            let noted = &mut self.noted[at];
            (noted.is_touched, noted.is_decided) = (true, true);
            let writer = self.writer(id);
            let fired = self.walker.fire(&writer, customer, &row)?;
            self.triggers.extend(fired.map(|fired| fired.value));
        }
        Ok(())
    }

    /// Evaluate a customer last seen by another model, as of now.
    fn reconsider(&mut self, at: usize, id: &str, customer: &mut Customer) -> Result<(), Declined> {
        let as_of_us = customer.as_of_us(midnight_us(self.midnight_day));
        let day = day_of(as_of_us);
        self.forget_unallowed(customer, day)?;
        customer.due_day = Some(day + 1);
        self.noted[at].is_touched = true;
        let row = self.walker.evaluate(customer, day)?;
        let look = Look {
            as_of_us,
            cause: Cause {
                trigger: "model",
                event_id: None,
            },
            record: None,
        };
        self.decide(at, id, customer, &row, &look);
        Ok(())
    }

    fn forget_unallowed(&mut self, customer: &mut Customer, day: i64) -> Result<(), Declined> {
        let (model, exactly) = (self.walker.model, self.walker.exactly);
        let points = &mut self.walker.points;
        let mut intent_of = |held: &Held<Answer>| declared_intent(held, model, exactly, points);
        customer.forget_unallowed(day, model, &mut intent_of)
    }

    fn take(
        &mut self,
        at: usize,
        id: &str,
        customer: &mut Customer,
        place: usize,
        record: &Record,
    ) -> Result<(&'static str, Option<String>), Declined> {
        let last_midnight_us = midnight_us(self.midnight_day);
        let latest_us = customer.latest_us;
        let effect = {
            let (model, exactly) = (self.walker.model, self.walker.exactly);
            let (catalogue, points) = (self.walker.catalogue, &mut self.walker.points);
            let mut intent_of = |held: &Held<Answer>| declared_intent(held, model, exactly, points);
            customer.apply(record, last_midnight_us, catalogue, model, &mut intent_of)?
        };
        let at_us = record.occurred_at_us;
        let event_id = Some(&*record.event_id);
        let is_repeated = match effect {
            Effect::TooLate { newest_us, days } => {
                return Ok(("dead_letter", Some(too_late(at_us, newest_us, days))));
            }
            Effect::Erased => return Ok(("erased", None)),
            Effect::Duplicate => return Ok(("duplicate", None)),
            Effect::Erasure(erased) => {
                let look = Look {
                    as_of_us: latest_us.unwrap_or(0).max(last_midnight_us).max(at_us),
                    cause: Cause {
                        trigger: "erasure",
                        event_id,
                    },
                    record: Some((place, at_us)),
                };
                self.end_life(at, id, &erased.decision, customer, &look);
                return Ok(("accepted", None));
            }
            Effect::Changed {
                is_repeated,
                wins_back,
            } => {
                if wins_back && customer.decision.pending.take().is_some() {
                    self.noted[at].is_decided = true;
                }
                is_repeated
            }
        };
        let as_of_us = customer.as_of_us(last_midnight_us);
        let day = day_of(as_of_us);
        let is_first_of_day = day > customer.profiled_day;
        customer.profiled_day = day;
        customer.due_day = Some(day + 1);
        self.noted[at].is_touched = true;
        let row = self.walker.evaluate(customer, day)?;
        let trigger = match record.event {
            Event::Consent(_) => "consent",
            _ if day_of(at_us) < day => "correction",
            _ => "event",
        };
        let look = Look {
            as_of_us,
            cause: Cause { trigger, event_id },
            record: Some((place, at_us)),
        };
        if !self.decide(at, id, customer, &row, &look) && is_first_of_day {
            self.note_profile(at, id, customer, &row, as_of_us);
        }
        Ok((if is_repeated { "duplicate" } else { "accepted" }, None))
    }

    /// The last changes of a life, and the end of its profile; `before` is the decision of the life that ends.
    fn end_life(
        &mut self,
        at: usize,
        id: &str,
        before: &Decision,
        customer: &Customer,
        look: &Look<'_>,
    ) {
        let writer = self.writer(id);
        let ids = self.walker.change(
            &writer,
            at as u32,
            before,
            customer,
            None,
            None,
            look.as_of_us,
            look.cause,
        );
        self.keep_changes(at, ids.into_iter().map(|(_, id)| id), look);
        let noted = &mut self.noted[at];
        (noted.is_touched, noted.is_decided) = (true, true);
        noted.profile = None;
        noted.tombstone_us = Some(look.as_of_us);
    }

    /// Move the standing if the rules say so, with changes and a profile; tells whether they did.
    fn decide(
        &mut self,
        at: usize,
        id: &str,
        customer: &mut Customer,
        row: &Row,
        look: &Look<'_>,
    ) -> bool {
        if customer.decision.model.as_deref() != Some(self.fingerprint) {
            customer.decision.model = Some(self.fingerprint.into());
            customer.decision.model_day = day_of(look.as_of_us);
            let noted = &mut self.noted[at];
            (noted.is_touched, noted.is_decided) = (true, true);
        }
        let writer = self.writer(id);
        let number = at as u32;
        let Some(ids) =
            self.walker
                .decide(&writer, number, customer, row, look.as_of_us, look.cause)
        else {
            return false;
        };
        self.keep_changes(at, ids.into_iter().map(|(_, id)| id), look);
        let noted = &mut self.noted[at];
        (noted.is_touched, noted.is_decided) = (true, true);
        self.note_profile(at, id, customer, row, look.as_of_us);
        true
    }

    fn keep_changes(&mut self, at: usize, ids: impl Iterator<Item = String>, look: &Look<'_>) {
        let values = self.walker.output.changes.drain();
        for (id, value) in ids.zip(values) {
            self.changes.push(Change {
                customer: at,
                id,
                as_of: time_text(look.as_of_us),
                value,
                record: look.record,
            });
        }
    }

    fn note_profile(&mut self, at: usize, id: &str, customer: &Customer, row: &Row, as_of_us: i64) {
        let mut value = Vec::with_capacity(2048);
        self.writer(id).profile(&mut value, customer, row, as_of_us);
        self.noted[at].profile = Some(Profile {
            as_of: time_text(as_of_us),
            sequence: customer.decision.sequence,
            value,
        });
    }
}

fn time_text(time_us: i64) -> String {
    let mut text = Vec::new();
    write_time(&mut text, time_us);
    String::from_utf8_lossy(&text).into_owned()
}
