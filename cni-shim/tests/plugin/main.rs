//! The plugin from outside, between a runtime, a daemon and an IPAM plugin that are all fake.

mod harness;

mod add;
mod check;
mod del;
mod gc;
mod input;
mod ipam;
mod results;
mod roll_back;
mod status;
mod version;
