//! The compiled core of cdp-stream. The rooms in Python are the reference: what is done here equals them byte for byte,
//! or is left to them (docs/adr/0015).

mod digest;
mod identity;
pub mod json;
pub mod kafka;
pub mod msgpack;
mod profiles;
pub mod text;
pub mod value;

use pyo3::prelude::*;

/// What Python asks for first: a module that was built from older sources is passed over (`stages/native.py`).
const INTERFACE: u32 = 6;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("INTERFACE", INTERFACE)?;
    module.add_class::<profiles::ProfileCore>()?;
    module.add_class::<digest::Chains>()?;
    identity::register(module)?;
    kafka::register(module)
}
