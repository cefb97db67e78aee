//! The end of a first load: everybody known is decided on once. Twin: `Enricher.enter` of `enrichment/enricher.py`.

use foldhash::{HashMap, HashMapExt};

use crate::customer::{Catalogue, Customer};
use crate::days::{day_of, midnight_us, write_time};
use crate::decision::{Baseline, Decision};
use crate::documents::{Cause, Writer};
use crate::engagement::Held;
use crate::events::Answer;
use crate::json::{write_float_or_null, write_integer, write_string, Commas};
use crate::lifetime::Predictor;
use crate::log::Log;
use crate::model::Model;
use crate::output::Output;
use crate::scores::next_standing;
use crate::state::{pack, settle, unpack};
use crate::walk::{declared_intent, Exactly, Walker};
use crate::Declined;

const LOAD: Cause<'static> = Cause {
    trigger: "load",
    event_id: None,
};

/// What is to be stored and published of one customer.
pub struct Entered {
    /// Each change with its id.
    pub changes: Vec<(String, Vec<u8>)>,
    pub profile: Vec<u8>,
    pub as_of: String,
    pub sequence: i64,
    /// The decision as JSON, as `ebbtide-decisions` keeps it.
    pub decision: Vec<u8>,
    pub state: Vec<u8>,
    pub due_day: i64,
}

/// Decide for the first time on customers by the plain rules, as of the later of this midnight and their latest record.
/// Dwell does not start, and no re-activation either.
pub fn enter(
    states: &[(&str, &[u8])],
    midnight_day: i64,
    fingerprint: &str,
    model: &Model,
    exactly: &dyn Exactly,
    predictor: &mut Predictor,
) -> Result<Vec<Entered>, Declined> {
    let mut names = Log::new(model).names;
    let mut customers = Vec::with_capacity(states.len());
    for (_, bytes) in states {
        customers.push(unpack(bytes, &mut names, model)?);
    }
    let catalogue = names.catalogue(model);
    let mut walker = Walker {
        model,
        catalogue: &catalogue,
        exactly,
        end_us: 0,
        predictor,
        points: HashMap::new(),
        output: Output::default(),
    };
    let mut points = HashMap::new();
    let mut intent_of = |held: &Held<Answer>| declared_intent(held, model, exactly, &mut points);
    let mut entered = Vec::with_capacity(states.len());
    for (mut customer, (id, _)) in customers.into_iter().zip(states) {
        settle(&mut customer, &catalogue);
        customer.derive(&catalogue, model, &mut intent_of)?;
        let as_of_us = customer.as_of_us(midnight_us(midnight_day));
        customer.forget_unallowed(day_of(as_of_us), model, &mut intent_of)?;
        entered.push(enter_one(&mut walker, customer, id, as_of_us, fingerprint)?);
    }
    Ok(entered)
}

fn enter_one(
    walker: &mut Walker<'_>,
    mut customer: Customer,
    id: &str,
    as_of_us: i64,
    fingerprint: &str,
) -> Result<Entered, Declined> {
    let latest_us = customer.latest_us.ok_or(Declined("nobody known"))?;
    if customer.decision.model.is_some() || customer.decision.standing.is_some() {
        return Err(Declined("a customer who has been decided on"));
    }
    let (model, catalogue): (&Model, &Catalogue) = (walker.model, walker.catalogue);
    let writer = Writer {
        model,
        catalogue,
        customer_id: id,
    };
    let day = day_of(as_of_us);
    customer.profiled_day = day_of(latest_us);
    customer.due_day = Some(day + 1);
    let row = walker.evaluate(&customer, day)?;
    let current = row.profiling_allowed.then(|| {
        next_standing(
            None,
            &customer.decision.changed_days,
            &row,
            model.given.dwell_days,
        )
    });
    let mut changes = Vec::new();
    if current.is_some() {
        let ids = walker.change(
            &writer,
            0,
            &customer.decision,
            &customer,
            Some(&row),
            current,
            as_of_us,
            LOAD,
        );
        let lines = walker.output.changes.drain();
        changes.extend(ids.into_iter().map(|(_, id)| id).zip(lines));
    }
    let decision = &mut customer.decision;
    decision.model = Some(fingerprint.into());
    decision.model_day = day;
    decision.standing = current;
    decision.sequence += changes.len() as i64;
    decision.baseline = current.map(|_| Baseline {
        metrics: row.metrics,
        contributions: row.contributions,
        scores: row.scores,
    });
    let mut profile = Vec::with_capacity(2048);
    writer.profile(&mut profile, &customer, &row, as_of_us);
    let mut as_of = Vec::new();
    write_time(&mut as_of, as_of_us);
    Ok(Entered {
        changes,
        profile,
        as_of: String::from_utf8_lossy(&as_of).into_owned(),
        sequence: customer.decision.sequence,
        decision: decision_json(&customer.decision),
        state: pack(&customer, catalogue, model),
        due_day: day + 1,
    })
}

/// The fields of a decision as a list, in the order of `enrichment/customer/decision.py`.
pub fn decision_json(decision: &Decision) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.push(b'[');
    write_integer(&mut out, decision.life);
    out.push(b',');
    write_integer(&mut out, decision.sequence);
    out.push(b',');
    match decision.standing {
        Some(ranks) => write_integers(&mut out, &ranks.map(i64::from)),
        None => out.extend_from_slice(b"null"),
    }
    out.push(b',');
    write_integers(&mut out, &decision.changed_days);
    out.push(b',');
    match &decision.baseline {
        Some(baseline) => {
            out.push(b'[');
            write_numbers(&mut out, &baseline.metrics);
            out.push(b',');
            write_numbers(&mut out, &baseline.contributions);
            out.push(b',');
            write_numbers(&mut out, &baseline.scores);
            out.push(b']');
        }
        None => out.extend_from_slice(b"null"),
    }
    out.push(b',');
    match &decision.pending {
        Some(pending) => {
            out.push(b'[');
            write_string(&mut out, &pending.change_id);
            out.push(b',');
            write_integer(&mut out, pending.due_day);
            out.push(b']');
        }
        None => out.extend_from_slice(b"null"),
    }
    for text in [
        decision.fired_change_id.as_deref(),
        decision.model.as_deref(),
    ] {
        out.push(b',');
        match text {
            Some(text) => write_string(&mut out, text),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b',');
    write_integer(&mut out, decision.model_day);
    out.push(b',');
    match decision.erased_up_to_us {
        Some(erased_us) => write_integer(&mut out, erased_us),
        None => out.extend_from_slice(b"null"),
    }
    out.push(b']');
    out
}

fn write_integers(out: &mut Vec<u8>, values: &[i64]) {
    out.push(b'[');
    let mut commas = Commas::new();
    for value in values {
        commas.next(out);
        write_integer(out, *value);
    }
    out.push(b']');
}

fn write_numbers(out: &mut Vec<u8>, values: &[f64]) {
    out.push(b'[');
    let mut commas = Commas::new();
    for value in values {
        commas.next(out);
        write_float_or_null(out, *value);
    }
    out.push(b']');
}
