//! What becomes of attachments at a start: the disk says what was, the kernel what is.

use std::collections::{BTreeMap, BTreeSet};

use shunt_api::AttachmentKey;

use super::store::{Loaded, State, Stored};
use crate::netlink::Link;
use crate::podlink::FoundLink;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It stands: open its port again, on this veth; a TAP is made anew.
    Adopt(Box<Stored>, Option<Link>),
    /// Nobody can say now whether its veth is there: it stands until that is known.
    Wait(Box<Stored>),
    /// Its pod is gone: give back what the runtime holds for it.
    Release(Box<Stored>, &'static str),
    /// Remove what is left of it.
    Remove(AttachmentKey),
    /// There is no record of it: the kernel's word counts.
    Believe(FoundLink),
    /// Only a file is left, without owner.
    Forget(String),
}

/// Decides. `found` is `None` when the kernel could not be asked: then nothing is taken for gone,
/// as a veth that is deleted by mistake is a living pod's. `queued` waits to be detached; `gone`
/// says why a pod's namespace is not what it was.
pub(super) fn decide(
    loaded: Loaded,
    found: Option<Vec<FoundLink>>,
    queued: &BTreeSet<AttachmentKey>,
    gone: impl Fn(&Stored) -> Option<&'static str>,
) -> Vec<Step> {
    let asked = found.is_some();
    // A device whose name is not its owner's is another's work, or a person's.
    let mut links: BTreeMap<String, FoundLink> = found
        .into_iter()
        .flatten()
        .filter(|found| found.key.short_name() == found.link.name)
        .map(|found| (found.link.name.clone(), found))
        .collect();
    let mut steps = Vec::new();
    for stored in loaded.records {
        let link = links.remove(&stored.host_device);
        let link = link.filter(|found| found.key == *stored.key());
        let stored = Box::new(stored);
        steps.push(if queued.contains(stored.key()) {
            Step::Remove(stored.key().clone())
        } else if stored.state == State::Releasing {
            Step::Release(stored, "its release was under way")
        } else if let Some(why) = gone(&stored) {
            Step::Release(stored, why)
        } else if stored.is_tap() {
            Step::Adopt(stored, None)
        } else if let Some(found) = link {
            Step::Adopt(stored, Some(found.link))
        } else if asked {
            Step::Release(stored, "its veth is gone")
        } else {
            Step::Wait(stored)
        });
    }
    let known = |step: &Step, name: &str| match step {
        Step::Adopt(stored, _) | Step::Release(stored, _) | Step::Wait(stored) => {
            stored.host_device == name
        }
        Step::Remove(key) => key.short_name() == name,
        Step::Believe(_) | Step::Forget(_) => false,
    };
    for (name, key) in loaded.leftovers {
        let link = links.remove(&name);
        if steps.iter().any(|step| known(step, &name)) {
            steps.push(Step::Forget(name));
            continue;
        }
        match key.or(link.map(|found| found.key)) {
            Some(key) => steps.push(Step::Remove(key)),
            None if asked => steps.push(Step::Forget(name)),
            // The next start may learn whose it is.
            None => {}
        }
    }
    for found in links.into_values() {
        let half_made = found.addresses.is_empty() || found.mac.is_none();
        if queued.contains(&found.key) || half_made && !found.unread {
            steps.push(Step::Remove(found.key));
        } else if !found.unread {
            steps.push(Step::Believe(found));
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use shunt_api::{MacAddr, PortKind};

    use super::*;
    use crate::control::attachments::store::tests::stored;

    fn link(stored: &Stored) -> FoundLink {
        FoundLink {
            key: stored.key().clone(),
            link: Link {
                index: 7,
                name: stored.host_device.clone(),
                mac: Some(MacAddr([0xee; 6])),
                mtu: 1500,
                up: true,
                running: true,
                kind: Some("veth".into()),
            },
            mac: Some(stored.mac),
            addresses: stored.addresses.clone(),
            unread: false,
        }
    }

    fn records(records: &[&Stored]) -> Loaded {
        Loaded {
            records: records.iter().map(|stored| (*stored).clone()).collect(),
            ..Loaded::default()
        }
    }

    const NONE: BTreeSet<AttachmentKey> = BTreeSet::new();

    #[test]
    fn what_stands_on_both_sides_is_adopted() {
        let veth = stored("a");
        let mut tap = stored("b");
        tap.spec.kind = PortKind::Tap;
        let steps = decide(
            records(&[&veth, &tap]),
            Some(vec![link(&veth)]),
            &NONE,
            |_| None,
        );
        assert_eq!(
            steps,
            [
                Step::Adopt(Box::new(veth.clone()), Some(link(&veth).link)),
                Step::Adopt(Box::new(tap), None),
            ]
        );
    }

    #[test]
    fn what_is_gone_is_released() {
        let (no_veth, no_netns, mut earlier) = (stored("a"), stored("b"), stored("c"));
        earlier.state = State::Releasing;
        let other = FoundLink {
            key: stored("d").key().clone(),
            ..link(&no_veth)
        };
        let steps = decide(
            records(&[&no_veth, &no_netns, &earlier]),
            Some(vec![link(&no_netns), other]),
            &NONE,
            |stored| (stored.key().container_id == "b").then_some("gone"),
        );
        assert_eq!(
            steps,
            [
                Step::Release(Box::new(no_veth), "its veth is gone"),
                Step::Release(Box::new(no_netns), "gone"),
                Step::Release(Box::new(earlier), "its release was under way"),
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_is_not_gone() {
        let (veth, no_netns, mut earlier, mut tap) =
            (stored("a"), stored("b"), stored("c"), stored("d"));
        earlier.state = State::Releasing;
        tap.spec.kind = PortKind::Tap;
        let loaded = Loaded {
            leftovers: vec![
                ("shx".into(), None),
                (stored("e").host_device, Some(stored("e").key().clone())),
            ],
            ..records(&[&veth, &no_netns, &earlier, &tap])
        };
        let steps = decide(loaded, None, &NONE, |stored| {
            (stored.key().container_id == "b").then_some("gone")
        });
        assert_eq!(
            steps,
            [
                Step::Wait(Box::new(veth)),
                Step::Release(Box::new(no_netns), "gone"),
                Step::Release(Box::new(earlier), "its release was under way"),
                Step::Adopt(Box::new(tap), None),
                Step::Remove(stored("e").key().clone()),
            ]
        );
    }

    #[test]
    fn a_pods_end_that_cannot_be_read_is_not_half_made() {
        let (recorded, unknown, queued) = (stored("a"), stored("b"), stored("c"));
        let unread = |stored: &Stored| FoundLink {
            mac: None,
            addresses: Vec::new(),
            unread: true,
            ..link(stored)
        };
        let found = [&recorded, &unknown, &queued].map(unread).into();
        let detached = [queued.key().clone()].into();
        let steps = decide(records(&[&recorded]), Some(found), &detached, |_| None);
        assert_eq!(
            steps,
            [
                Step::Adopt(Box::new(recorded.clone()), Some(link(&recorded).link)),
                Step::Remove(queued.key().clone()),
            ]
        );
    }

    #[test]
    fn what_waits_to_be_detached_is_removed_and_not_released() {
        let (recorded, linked) = (stored("a"), stored("b"));
        let queued = [recorded.key().clone(), linked.key().clone()].into();
        let steps = decide(
            records(&[&recorded]),
            Some(vec![link(&linked)]),
            &queued,
            |_| Some("gone"),
        );
        assert_eq!(
            steps,
            [
                Step::Remove(recorded.key().clone()),
                Step::Remove(linked.key().clone()),
            ]
        );
    }

    #[test]
    fn links_without_record_are_believed_unless_half_made() {
        let (whole, bare, unread) = (stored("a"), stored("b"), stored("c"));
        let bare = FoundLink {
            addresses: Vec::new(),
            ..link(&bare)
        };
        let unread = FoundLink {
            mac: None,
            ..link(&unread)
        };
        let found = vec![link(&whole), bare.clone(), unread.clone()];
        let steps = decide(Loaded::default(), Some(found), &NONE, |_| None);
        assert_eq!(steps.len(), 3);
        assert!(steps.contains(&Step::Believe(link(&whole))));
        assert!(steps.contains(&Step::Remove(bare.key)));
        assert!(steps.contains(&Step::Remove(unread.key)));
    }

    #[test]
    fn leftovers_are_removed_by_whoever_knows_their_owner() {
        let (told, by_link, nobody, standing) =
            (stored("a"), stored("b"), stored("c"), stored("d"));
        let loaded = Loaded {
            records: vec![standing.clone()],
            leftovers: vec![
                (told.host_device.clone(), Some(told.key().clone())),
                (by_link.host_device.clone(), None),
                (nobody.host_device.clone(), None),
                (standing.host_device.clone(), None),
            ],
            damaged: Vec::new(),
        };
        let found = vec![link(&by_link), link(&told), link(&standing)];
        let steps = decide(loaded, Some(found), &NONE, |_| None);
        assert_eq!(
            steps,
            [
                Step::Adopt(Box::new(standing.clone()), Some(link(&standing).link)),
                Step::Remove(told.key().clone()),
                Step::Remove(by_link.key().clone()),
                Step::Forget(nobody.host_device),
                Step::Forget(standing.host_device),
            ]
        );
    }
}
