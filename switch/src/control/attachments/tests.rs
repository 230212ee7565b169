//! Attachments from phase to phase.

use std::fs;

use super::store::tests::stored;
use super::*;

/// Attachments of a state directory, and what keeps their waker alive.
fn attachments(folder: &Path) -> (mio::Poll, Attachments) {
    let poll = mio::Poll::new().expect("a poll");
    let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).expect("a waker"));
    let attachments = Attachments::new(folder, &waker).expect("threads");
    (poll, attachments)
}

#[test]
fn a_record_that_cannot_be_removed_is_remembered() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_poll, mut attachments) = attachments(folder.path());
    let record = stored("a");
    let key = record.key().clone();
    attachments.store.save(&record).expect("written");
    let name = format!("attachments/{}.gone", record.host_device);
    let obstacle = folder.path().join(name);
    fs::create_dir(&obstacle).expect("made");
    for left in [true, false] {
        let removed = attachments.remove_record(&key, left);
        assert!(removed.is_err());
        assert_eq!(attachments.records_left(), std::slice::from_ref(&key));
    }
    // An attachment that comes meanwhile has the file for its own.
    let standing = Standing {
        stored: Box::new(record),
        trouble: None,
    };
    let phases = &mut attachments.phases;
    phases.insert(key.clone(), Phase::Standing(standing));
    assert_eq!(attachments.records_left(), []);
    attachments.phases.clear();
    fs::remove_dir(&obstacle).expect("removed");
    attachments.remove_record(&key, false).expect("removed");
    assert_eq!(attachments.records_left(), []);
    let loaded = attachments.store.load().expect("read");
    assert!(loaded.records.is_empty() && loaded.leftovers.is_empty());
    attachments.stop();
}

#[test]
fn one_that_is_cancelled_while_it_is_made_is_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_poll, mut attachments) = attachments(folder.path());
    let record = stored("a");
    let (own, other) = (record.key().clone(), stored("b").key().clone());
    let there = attach::place(&record).expect("a namespace");
    let elsewhere = (there.0, "eth1".to_owned());
    let making = |cancelled| {
        Phase::Making(Making {
            asker: Asker::test(),
            stored: Box::new(stored("a")),
            frames: 1,
            cancelled,
        })
    };
    attachments.phases.insert(own.clone(), making(false));
    assert_eq!(attachments.making().count(), 1);
    let error = attachments.busy(&own, Some(&there)).expect_err("wanted");
    assert_eq!(error.code, ErrorCode::Exists);
    assert_eq!(attachments.busy(&other, Some(&there)), Ok(None));

    attachments.phases.insert(own.clone(), making(true));
    // Its addresses and its MAC are free.
    assert_eq!(attachments.making().count(), 0);
    assert_eq!(attachments.busy(&own, Some(&there)), Ok(Some(&own)));
    assert_eq!(attachments.busy(&own, None), Ok(Some(&own)));
    assert_eq!(attachments.busy(&other, Some(&there)), Ok(Some(&own)));
    assert_eq!(attachments.busy(&other, Some(&elsewhere)), Ok(None));
    assert_eq!(attachments.busy(&other, None), Ok(None));
    attachments.stop();
}

#[test]
fn those_without_a_port_take_turns() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_poll, mut attachments) = attachments(folder.path());
    assert_eq!(attachments.next_to_try(), None);
    for (container, trouble) in [("a", true), ("b", false), ("c", true)] {
        let stored = Box::new(stored(container));
        let standing = Standing {
            trouble: trouble.then(|| "busy".to_owned()),
            stored,
        };
        let key = standing.stored.key().clone();
        attachments.phases.insert(key, Phase::Standing(standing));
    }
    let mut turns = Vec::new();
    for _ in 0..3 {
        attachments.tried = attachments.next_to_try();
        turns.extend(attachments.tried.clone().map(|key| key.container_id));
    }
    assert_eq!(turns, ["a", "c", "a"]);
    attachments.stop();
}
