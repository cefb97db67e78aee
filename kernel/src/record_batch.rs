//! A batch of records as Kafka stores it (format version 2, as in Apache Kafka's documentation, section "Message
//! Format"), not compressed: where each record's key and value lie.
//!
//! Only plain batches are read: those in which anything is unusual are for aiokafka.

use std::ops::Range;

const HEADER_BYTES: usize = 61;
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;
const ATTRIBUTES_AT: usize = 21;
const CODEC: u16 = 0x07;
const LOG_APPEND_TIME: u16 = 0x08;
const CONTROL: u16 = 0x20;
const LAST_OFFSET_DELTA_AT: usize = 23;
const FIRST_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const COUNT_AT: usize = 57;
/// Length, attributes, time, offset, key, value and number of headers take a byte each at least.
const LEAST_RECORD_BYTES: usize = 7;
const US_PER_MS: i64 = 1_000;

pub type Header<'a> = (&'a str, Option<&'a [u8]>);

pub struct RecordBatch {
    bytes: Vec<u8>,
    records: Vec<Place>,
    /// When the broker took it, in milliseconds; None where the times are the producer's.
    append_time_ms: Option<i64>,
}

struct Place {
    offset: i64,
    timestamp_ms: i64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
}

impl RecordBatch {
    /// A whole batch; None if anything in it is unusual.
    pub fn read(bytes: Vec<u8>) -> Option<RecordBatch> {
        if bytes.len() < HEADER_BYTES || bytes[MAGIC_AT] != MAGIC {
            return None;
        }
        let attributes = u16::from_be_bytes(array(&bytes, ATTRIBUTES_AT)?);
        let count = usize::try_from(i32::from_be_bytes(array(&bytes, COUNT_AT)?)).ok()?;
        let is_unusual = attributes & (CODEC | CONTROL) != 0;
        if is_unusual || count > (bytes.len() - HEADER_BYTES) / LEAST_RECORD_BYTES {
            return None;
        }
        let base = i64::from_be_bytes(array(&bytes, 0)?);
        let last_delta = i64::from(i32::from_be_bytes(array(&bytes, LAST_OFFSET_DELTA_AT)?));
        let first_ms = i64::from_be_bytes(array(&bytes, FIRST_TIMESTAMP_AT)?);
        let max_ms = i64::from_be_bytes(array(&bytes, MAX_TIMESTAMP_AT)?);
        let append_time_ms = (attributes & LOG_APPEND_TIME != 0).then_some(max_ms);
        append_time_ms.unwrap_or(0).checked_mul(US_PER_MS)?;
        let mut records = Vec::with_capacity(count);
        let mut reader = Reader {
            bytes: &bytes,
            at: HEADER_BYTES,
        };
        let mut least_delta = 0;
        for _ in 0..count {
            let (place, delta) = reader.record(base, first_ms)?;
            if delta < least_delta || delta > last_delta {
                return None;
            }
            least_delta = delta + 1;
            records.push(Place {
                timestamp_ms: append_time_ms.unwrap_or(place.timestamp_ms),
                ..place
            });
        }
        if reader.at != bytes.len() {
            return None;
        }
        Some(RecordBatch {
            bytes,
            records,
            append_time_ms,
        })
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn append_time_us(&self) -> Option<i64> {
        self.append_time_ms.map(|time_ms| time_ms * US_PER_MS)
    }

    pub fn offset(&self, at: usize) -> Option<i64> {
        Some(self.records.get(at)?.offset)
    }

    pub fn timestamp_ms(&self, at: usize) -> Option<i64> {
        Some(self.records.get(at)?.timestamp_ms)
    }

    /// The key, or None for a record without.
    pub fn key(&self, at: usize) -> Option<&[u8]> {
        self.part(self.records.get(at)?.key.clone())
    }

    /// The value, or None for a record without.
    pub fn value(&self, at: usize) -> Option<&[u8]> {
        self.part(self.records.get(at)?.value.clone())
    }

    /// The headers; none of a record that there is not.
    pub fn headers(&self, at: usize) -> Vec<Header<'_>> {
        let Some(place) = self.records.get(at) else {
            return Vec::new();
        };
        let mut reader = Reader {
            bytes: &self.bytes,
            at: place.headers.start,
        };
        let mut headers = Vec::new();
        while reader.at < place.headers.end {
            let Some((name, value)) = reader.header() else {
                break;
            };
            let value = value.map(|range| &self.bytes[range]);
            headers.push((name, value));
        }
        headers
    }

    /// The place of the first record of this offset or a later one.
    pub fn place_of(&self, offset: i64) -> usize {
        self.records.partition_point(|place| place.offset < offset)
    }

    /// How many bytes the values of records take, and their keys with them.
    pub fn sizes(&self, records: Range<usize>) -> Option<(usize, usize)> {
        let length = |part: &Option<Range<usize>>| part.as_ref().map_or(0, Range::len);
        let mut sizes = (0, 0);
        for place in self.records.get(records)? {
            sizes.0 += length(&place.value);
            sizes.1 += length(&place.key) + length(&place.value);
        }
        Some(sizes)
    }

    /// From a record on, the place behind the first with which there are so many records, or so many bytes of values.
    pub fn end_of_run(&self, first: usize, most_records: usize, most_bytes: usize) -> usize {
        let mut bytes = 0;
        let mut at = first;
        while at < self.records.len() && at - first < most_records && bytes < most_bytes {
            bytes += self.records[at].value.as_ref().map_or(0, Range::len);
            at += 1;
        }
        at
    }

    fn part(&self, range: Option<Range<usize>>) -> Option<&[u8]> {
        self.bytes.get(range?)
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A record, and its offset after the batch's first.
    fn record(&mut self, base: i64, first_ms: i64) -> Option<(Place, i64)> {
        let length = usize::try_from(self.varint()?).ok()?;
        let end = self.at.checked_add(length)?;
        // Kafka reads a byte here, aiokafka a varint: they are the same for the values that there are.
        if *self.bytes.get(self.at)? >= 0x80 {
            return None;
        }
        self.at += 1;
        let timestamp_ms = first_ms.checked_add(self.varint()?)?;
        let delta = self.varint()?;
        let (key, value) = (self.nullable()?, self.nullable()?);
        let count = usize::try_from(self.varint()?).ok()?;
        let first_header = self.at;
        for _ in 0..count {
            self.header()?;
        }
        if self.at != end {
            return None;
        }
        let place = Place {
            offset: base.checked_add(delta)?,
            timestamp_ms,
            key,
            value,
            headers: first_header..end,
        };
        Some((place, delta))
    }

    fn header(&mut self) -> Option<(&'a str, Option<Range<usize>>)> {
        let name = self.nullable()??;
        let name = std::str::from_utf8(&self.bytes[name]).ok()?;
        Some((name, self.nullable()?))
    }

    /// Bytes after their length, which is negative where there are none: then Some(None).
    fn nullable(&mut self) -> Option<Option<Range<usize>>> {
        let length = self.varint()?;
        if length < 0 {
            return Some(None);
        }
        let end = self.at.checked_add(usize::try_from(length).ok()?)?;
        if end > self.bytes.len() {
            return None;
        }
        let range = self.at..end;
        self.at = end;
        Some(Some(range))
    }

    /// A number in Protocol Buffers' variable-length zigzag encoding.
    fn varint(&mut self) -> Option<i64> {
        let mut value: u64 = 0;
        for shift in (0..63).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        None
    }
}
