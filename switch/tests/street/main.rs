//! The street over memory ports: what goes in, what comes out, and that nothing is lost between.

mod arp;
mod full;
mod hostile;
mod l2;
mod l3;
mod node;
mod tunnel;
mod wait;
