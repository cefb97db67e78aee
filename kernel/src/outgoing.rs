//! Records to be published, as Redis' outbox and Kafka's batches hold them. Twin: `streams/outbox.py`, with
//! `streams/worker/outputs.py` and `streams/state/changelog.py`.
//!
//! A record is written once for each: as a MessagePack array (topic, key, value, headers), and as a record of a batch
//! (format version 2, as in Apache Kafka's documentation, section "Message Format").

use foldhash::HashMap;

use rmp::encode;

use crate::identity::{identifier, Part};

const HEADER_OVERHEAD_BYTES: usize = 8;
const RECORD_OVERHEAD_BYTES: usize = 32;
const SPEC_VERSION: &str = "1.0";
const CONTENT_TYPE: &str = "application/json";

/// What records of the topics have in common.
pub struct Labels {
    pub namespace: String,
    /// `ce_type` and `ce_source` of changes and of profiles.
    pub changes: (String, String),
    pub profiles: (String, String),
    /// Kind and group, the headers of a decision.
    pub decision_headers: Vec<(String, Vec<u8>)>,
}

pub const CHANGES: &str = "segment-changes";
pub const PROFILES: &str = "customer-profiles";
pub const DECISIONS: &str = "ebbtide-decisions";

/// A record, written for Redis and for Kafka.
struct Written {
    topic: usize,
    packed: Vec<u8>,
    /// From the key on: before it come length, attributes, time and offset.
    body: Vec<u8>,
    size: usize,
}

/// The records of a batch: how many, and their bytes.
pub struct Batch {
    pub topic: usize,
    pub count: usize,
    pub bytes: Vec<u8>,
}

/// Everything that a micro-batch publishes.
pub struct Finished {
    /// As Redis keeps it.
    pub packed: Vec<u8>,
    pub batches: Vec<Batch>,
    /// By topic: how many records, and the size of the largest.
    pub of_topics: Vec<(String, usize, usize)>,
}

/// Records in the order in which they are to be published. Of profiles and decisions the last of each customer counts;
/// they come after all others.
#[derive(Default)]
pub struct Outgoing {
    topics: Vec<String>,
    made: Vec<Written>,
    profiles: Latest,
    decisions: Latest,
    pub size: usize,
}

/// The latest record of each customer, in the order of the customers' first ones.
#[derive(Default)]
struct Latest {
    places: HashMap<Box<str>, usize>,
    records: Vec<Option<Written>>,
}

impl Latest {
    fn put(&mut self, customer_id: &str, record: Written) {
        if let Some(&place) = self.places.get(customer_id) {
            self.records[place] = Some(record);
            return;
        }
        self.places.insert(customer_id.into(), self.records.len());
        self.records.push(Some(record));
    }

    fn drop(&mut self, customer_id: &str) {
        if let Some(place) = self.places.remove(customer_id) {
            self.records[place] = None;
        }
    }
}

type Headers<'a> = [(&'a str, &'a [u8])];

impl Outgoing {
    /// A record, after those before it.
    pub fn push(
        &mut self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers<'_>,
    ) {
        let record = self.written(topic, key, value, headers);
        self.size += record.size;
        self.made.push(record);
    }

    /// A profile, in place of an earlier one of the customer.
    pub fn put_profile(&mut self, customer_id: &str, value: Option<&[u8]>, headers: &Headers<'_>) {
        let record = self.written(PROFILES, Some(customer_id.as_bytes()), value, headers);
        self.profiles.put(customer_id, record);
    }

    /// Publish no profile of the customer that has been put before.
    pub fn drop_profile(&mut self, customer_id: &str) {
        self.profiles.drop(customer_id);
    }

    /// A decision, in place of an earlier one of the customer; None where nothing is known of them any more.
    pub fn put_decision(&mut self, customer_id: &str, value: Option<&[u8]>, labels: &Labels) {
        let headers: Vec<(&str, &[u8])> = labels
            .decision_headers
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let record = self.written(DECISIONS, Some(customer_id.as_bytes()), value, &headers);
        self.decisions.put(customer_id, record);
    }

    /// A segment change that the compiled core has made.
    pub fn push_change(
        &mut self,
        id: &str,
        customer_id: &str,
        as_of: &str,
        value: &[u8],
        labels: &Labels,
    ) {
        let key = customer_id.as_bytes();
        let headers = cloud_event(&labels.changes, id, as_of, key);
        self.push(CHANGES, Some(key), Some(value), &headers);
    }

    /// A profile that the compiled core has made.
    pub fn put_made_profile(
        &mut self,
        customer_id: &str,
        as_of: &str,
        sequence: i64,
        value: &[u8],
        labels: &Labels,
    ) {
        let id = identifier(&[
            Part::Text(&labels.namespace),
            Part::Text(customer_id),
            Part::Text("profile"),
            Part::Text(as_of),
            Part::Number(sequence),
        ]);
        let headers = cloud_event(&labels.profiles, &id, as_of, customer_id.as_bytes());
        self.put_profile(customer_id, Some(value), &headers);
    }

    /// All records, in batches of at most so many bytes, but for records that are larger.
    pub fn finish(self, most_bytes: usize) -> Finished {
        let ends = [self.profiles, self.decisions];
        let ends = ends
            .into_iter()
            .flat_map(|latest| latest.records.into_iter().flatten());
        let records: Vec<Written> = self.made.into_iter().chain(ends).collect();
        let mut of_topics: Vec<(String, usize, usize)> =
            self.topics.into_iter().map(|topic| (topic, 0, 0)).collect();
        let mut packed = Vec::with_capacity(records.iter().map(|record| record.packed.len()).sum());
        let _ = encode::write_array_len(&mut packed, records.len() as u32);
        let mut open: Vec<Option<Batch>> = of_topics.iter().map(|_| None).collect();
        let mut batches = Vec::new();
        for record in records {
            let (_, count, largest) = &mut of_topics[record.topic];
            *count += 1;
            *largest = record.size.max(*largest);
            packed.extend_from_slice(&record.packed);
            let place = &mut open[record.topic];
            let is_full = |batch: &Batch| {
                batch.bytes.len() + record.size + RECORD_OVERHEAD_BYTES > most_bytes
            };
            if place.as_ref().is_some_and(is_full) {
                batches.extend(place.take());
            }
            let batch = place.get_or_insert_with(|| Batch {
                topic: record.topic,
                count: 0,
                bytes: Vec::new(),
            });
            append(batch, &record.body);
        }
        batches.extend(open.into_iter().flatten());
        Finished {
            packed,
            batches,
            of_topics,
        }
    }

    fn written(
        &mut self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers<'_>,
    ) -> Written {
        let place = match self.topics.iter().position(|known| known == topic) {
            Some(place) => place,
            None => {
                self.topics.push(topic.to_owned());
                self.topics.len() - 1
            }
        };
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let named: usize = headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + HEADER_OVERHEAD_BYTES)
            .sum();
        let size = length(key) + length(value) + named + RECORD_OVERHEAD_BYTES;
        Written {
            topic: place,
            packed: packed(topic, key, value, headers, size),
            body: body(key, value, headers, size),
            size,
        }
    }
}

/// CloudEvents headers in Kafka's binary mode. Twin: `schemas/cloudevents.py`.
fn cloud_event<'a>(
    (kind, source): &'a (String, String),
    id: &'a str,
    time: &'a str,
    customer_id: &'a [u8],
) -> [(&'a str, &'a [u8]); 7] {
    [
        ("ce_id", id.as_bytes()),
        ("ce_type", kind.as_bytes()),
        ("ce_source", source.as_bytes()),
        ("ce_specversion", SPEC_VERSION.as_bytes()),
        ("ce_time", time.as_bytes()),
        ("ce_subject", customer_id),
        ("content-type", CONTENT_TYPE.as_bytes()),
    ]
}

/// A record as Redis keeps it. Writing to memory never fails.
fn packed(
    topic: &str,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &Headers<'_>,
    size: usize,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(size + topic.len() + 16);
    let _ = encode::write_array_len(&mut out, 4);
    let _ = encode::write_str(&mut out, topic);
    for part in [key, value] {
        let _ = match part {
            Some(bytes) => encode::write_bin(&mut out, bytes).is_ok(),
            None => encode::write_nil(&mut out).is_ok(),
        };
    }
    let _ = encode::write_array_len(&mut out, headers.len() as u32);
    for (name, value) in headers {
        let _ = encode::write_array_len(&mut out, 2);
        let _ = encode::write_str(&mut out, name);
        let _ = encode::write_bin(&mut out, value);
    }
    out
}

/// A record of a batch, from its key on.
fn body(key: Option<&[u8]>, value: Option<&[u8]>, headers: &Headers<'_>, size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(size + 16);
    for part in [key, value] {
        match part {
            Some(bytes) => write_bytes(&mut out, bytes),
            None => write_varint(&mut out, -1),
        }
    }
    write_varint(&mut out, headers.len() as i64);
    for (name, value) in headers {
        write_bytes(&mut out, name.as_bytes());
        write_bytes(&mut out, value);
    }
    out
}

/// Add a record to a batch, at the batch's own time.
fn append(batch: &mut Batch, body: &[u8]) {
    let mut head = Vec::with_capacity(8);
    head.push(0); // attributes
    write_varint(&mut head, 0); // after the first record's time
    write_varint(&mut head, batch.count as i64);
    write_varint(&mut batch.bytes, (head.len() + body.len()) as i64);
    batch.bytes.extend_from_slice(&head);
    batch.bytes.extend_from_slice(body);
    batch.count += 1;
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_varint(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// A number in Protocol Buffers' variable-length zigzag encoding.
fn write_varint(out: &mut Vec<u8>, number: i64) {
    let mut left = (number << 1 ^ number >> 63) as u64;
    while left >= 0x80 {
        out.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}
