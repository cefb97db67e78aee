//! A fetched batch, as a worker holds it until its records are taken.

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::caught;
use crate::record_batch::RecordBatch as Read;

/// Offset, timestamp in milliseconds, key, value and headers of a record.
type RecordOf<'py> = (
    i64,
    i64,
    Option<Bound<'py, PyBytes>>,
    Option<Bound<'py, PyBytes>>,
    Vec<(String, Option<Bound<'py, PyBytes>>)>,
);

/// A batch of records, whose keys and values become Python's only where they are asked for.
#[pyclass(frozen)]
pub struct RecordBatch {
    pub read: Read,
}

#[pymethods]
impl RecordBatch {
    /// Read a whole batch that is not compressed; None if anything in it is unusual.
    #[staticmethod]
    fn read(bytes: &[u8]) -> PyResult<Option<Self>> {
        let read = caught(|| Ok(Read::read(bytes.to_vec())))?;
        Ok(read.map(|read| RecordBatch { read }))
    }

    fn __len__(&self) -> usize {
        self.read.len()
    }

    /// When the broker took the batch, in microseconds; None where the times are the producer's.
    #[getter]
    fn append_time_us(&self) -> Option<i64> {
        self.read.append_time_us()
    }

    fn offset(&self, at: usize) -> PyResult<i64> {
        self.read.offset(at).ok_or_else(no_record)
    }

    fn record<'py>(&self, py: Python<'py>, at: usize) -> PyResult<RecordOf<'py>> {
        let bytes = |part: Option<&[u8]>| part.map(|part| PyBytes::new(py, part));
        let offset = self.offset(at)?;
        let timestamp_ms = self.read.timestamp_ms(at).ok_or_else(no_record)?;
        let headers = self.read.headers(at);
        let headers = headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), bytes(value)));
        Ok((
            offset,
            timestamp_ms,
            bytes(self.read.key(at)),
            bytes(self.read.value(at)),
            headers.collect(),
        ))
    }

    /// The place of the first record of this offset or a later one.
    fn place_of(&self, offset: i64) -> usize {
        self.read.place_of(offset)
    }

    /// How many bytes the values of some records take, and their keys and values.
    fn sizes(&self, first: usize, end: usize) -> PyResult<(usize, usize)> {
        self.read.sizes(first..end).ok_or_else(no_record)
    }

    /// From a record on, the place behind the first with which there are so many records, or so many bytes of values.
    fn end_of_run(&self, first: usize, most_records: usize, most_bytes: usize) -> usize {
        self.read.end_of_run(first, most_records, most_bytes)
    }
}

pub fn no_record() -> PyErr {
    PyIndexError::new_err("no such record in the batch")
}

/// The checksum of two pieces in a row, as Kafka's batches have it (CRC-32C).
#[pyfunction]
pub fn checksum(first: &[u8], second: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(first), second)
}
