//! The street over memory ports: what goes in, what comes out, and that nothing is lost between.

mod arp;
mod cut;
mod full;
mod guards;
mod hostile;
mod hostile6;
mod icmp;
mod l2;
mod l3;
mod limits;
mod mss;
mod ndp;
mod node;
mod packets;
mod places;
mod sctp;
mod services;
mod tunnel;
mod tunnel6;
mod v6;
mod wait;
