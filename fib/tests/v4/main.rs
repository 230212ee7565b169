//! The IPv4 table from outside: its answers, and its readers beside its writer.

mod default_route;
mod oracle;
mod readers;
mod updates;
