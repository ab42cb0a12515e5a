//! The profile stage's plain events and due times: from the message's bytes to rows, messages and the profile's new state.

mod core;
mod dates;
mod event;
mod fold;
mod kinds;
mod nodes;
mod numbers;
mod outputs;
mod plan;
mod profile;
mod route;
mod update;
mod work;
mod world;

pub use self::core::ProfileCore;
