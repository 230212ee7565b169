//! The IPv6 table: answers, pools, and its readers beside its writer.

#[path = "../common/mod.rs"]
mod common;
mod pair;
mod pools;
mod readers;
mod updates;

common::tests_of!(shunt_fib::v6::V6:
    batches::batches_of_every_length,
    batches::batches_of_unequal_lengths_take_the_shorter,
    default_route::no_reader_takes_an_old_default_for_a_newer_miss,
    default_route::a_default_route_comes_and_goes_like_another,
    readers::a_reader_that_is_never_quiescent_ends_in_an_error,
    readers::the_writer_waits_for_a_reader_that_comes,
    readers::an_offline_reader_holds_nothing_up,
    readers::readers_are_counted_while_they_live,
    readers::a_flush_waits_for_every_online_reader,
    readers::readers_outlive_the_writer,
);
