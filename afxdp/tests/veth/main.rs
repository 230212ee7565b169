//! Devices over real veth pairs, in network namespaces made for each test. Needs root.

mod lifecycle;
mod retiring;
mod sharing;
mod support;
mod traffic;
