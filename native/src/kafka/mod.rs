//! Kafka's record batches, written and read: the format's version 2, uncompressed.
//!
//! What the client makes of them costs more than deciding the events that they hold, so the two places through which every
//! event passes are done here: the batches of a step, and the sources' records. Everything else, such as compressed batches
//! and older formats, is the client's.

mod batch;
mod fetched;
mod taken;
mod varint;

use pyo3::prelude::*;

pub use batch::{Owner, Writer};
pub use fetched::{parse, Aborted, Refused, Run};
pub use taken::Records;

/// What Python sees of it.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(batch::record_batches, module)?)?;
    module.add_function(wrap_pyfunction!(fetched::fetched_records, module)?)?;
    module.add_class::<fetched::Fetched>()?;
    module.add_class::<taken::Records>()
}

/// Where the parts of a batch's header stand.
mod header {
    pub const LENGTH: usize = 8;
    pub const MAGIC: usize = 16;
    pub const CRC: usize = 17;
    pub const ATTRIBUTES: usize = 21;
    pub const LAST_OFFSET_DELTA: usize = 23;
    pub const FIRST_TIMESTAMP: usize = 27;
    pub const MAX_TIMESTAMP: usize = 35;
    pub const PRODUCER_ID: usize = 43;
    pub const COUNT: usize = 57;
    pub const RECORDS: usize = 61;
    /// Base offset and length, which the length does not count.
    pub const UNCOUNTED: usize = 12;
    pub const FORMAT: u8 = 2;
}
