//! Records on a disk.

use super::*;

pub(in crate::control::attachments) fn stored(container: &str) -> Stored {
    let key = AttachmentKey {
        network: "pods".into(),
        container_id: container.into(),
        ifname: "eth0".into(),
    };
    let spec = PodSpec {
        addresses: vec!["10.244.1.7/24".parse().expect("an address")],
        pod: Some("default/web-0".into()),
        ..PodSpec::new(key, "/run/netns/pod")
    };
    let mut stored = Stored::new(spec, MacAddr([2, 0, 0, 0, 0, 7]), 1500);
    stored.netns_id = Some(NetnsId {
        device: 4,
        inode: 4_026_532_000,
    });
    stored.addresses = vec!["10.244.1.7/32".parse().expect("an address")];
    stored
}

fn files(store: &Store) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(&store.folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_record_comes_and_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::new(&folder.path().join("deep"));
    assert!(store.load().expect("no folder yet").records.is_empty());
    assert!(store.probe().is_ok());
    assert!(!folder.path().join("deep").exists(), "nothing is made yet");
    let record = stored("a");
    let name = record.host_device.clone();
    store.begin(&record).expect("written");
    let loaded = store.load().expect("read");
    assert!(loaded.records.is_empty());
    assert_eq!(
        loaded.leftovers,
        [(name.clone(), Some(record.key().clone()))]
    );
    store.commit(&name).expect("in place");
    store.sync([name.clone(), "absent".into()].into_iter());
    assert_eq!(
        store.load().expect("read").records,
        std::slice::from_ref(&record)
    );
    let releasing = Stored {
        state: State::Releasing,
        ..record.clone()
    };
    store.save(&releasing).expect("replaced");
    assert_eq!(store.load().expect("read").records, [releasing]);
    store.retire(&name).expect("set aside");
    let loaded = store.load().expect("read");
    assert!(loaded.records.is_empty());
    assert_eq!(
        loaded.leftovers,
        [(name.clone(), Some(record.key().clone()))]
    );
    store.forget(&name).expect("removed");
    store.retire(&name).expect("nothing to do");
    store.forget(&name).expect("nothing to do");
    assert!(store.probe().is_ok());
    assert!(files(&store).is_empty());
}

#[test]
fn a_record_that_cannot_be_removed_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::new(folder.path());
    let record = stored("a");
    let name = record.host_device.clone();
    store.save(&record).expect("written");
    let obstacle = store.file(&name, GOING);
    fs::create_dir(&obstacle).expect("made");
    let error = store.retire(&name).expect_err("a folder is in the way");
    assert!(error.message.contains(&format!("{name}.json")), "{error}");
    let error = store.forget(&name).expect_err("a folder is no file");
    assert!(error.message.contains(&format!("{name}.gone")), "{error}");
    assert_eq!(store.load().expect("read").records, [record]);
    fs::remove_dir(&obstacle).expect("removed");
    store.retire(&name).expect("set aside");
    store.forget(&name).expect("removed");
    assert!(files(&store).is_empty());
}

#[test]
fn damaged_records_are_set_aside_and_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::new(folder.path());
    let good = stored("a");
    store.save(&good).expect("written");
    let json = fs::read_to_string(store.file(&good.host_device, STANDING)).expect("read");
    let of_other = stored("b").host_device;
    let later = stored("c").host_device;
    fs::write(store.file(&of_other, STANDING), &json).expect("written");
    let newer = json.replace("\"version\":1", "\"version\":2");
    fs::write(store.file(&later, STANDING), newer).expect("written");
    fs::write(store.file("half", STANDING), &json[..json.len() / 2]).expect("written");
    fs::write(store.file("empty", STANDING), "").expect("written");
    fs::write(store.folder.join("half.json.damaged-1"), "earlier").expect("written");
    let loaded = store.load().expect("read");
    assert_eq!(loaded.records, [good]);
    let damaged: Vec<_> = loaded
        .damaged
        .iter()
        .map(|(file, _)| file.file_name().expect("a name").to_string_lossy())
        .collect();
    assert_eq!(damaged.len(), 4, "{damaged:?}");
    assert!(
        damaged.contains(&"half.json.damaged-2".into()),
        "{damaged:?}"
    );
    let whys: Vec<_> = loaded.damaged.iter().map(|(_, why)| why.as_str()).collect();
    assert!(whys.iter().any(|why| why.contains("belongs to pods/a")));
    assert!(whys.iter().any(|why| why.contains("version 2")));
    let again = store.load().expect("read");
    assert!(again.damaged.is_empty(), "told of once");
    assert_eq!(again.records.len(), 1);
}

#[test]
fn a_half_written_beginning_is_a_leftover_without_owner() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::new(folder.path());
    store.begin(&stored("a")).expect("written");
    fs::write(store.file("shx", MAKING), "{\"ver").expect("written");
    fs::write(store.file("shx", GOING), "").expect("written");
    let loaded = store.load().expect("read");
    assert_eq!(loaded.leftovers.len(), 2);
    assert!(loaded.leftovers.contains(&("shx".into(), None)));
    assert!(loaded.damaged.is_empty());
}

#[test]
fn what_cannot_be_written_names_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("attachments"), "no folder").expect("written");
    let store = Store::new(folder.path());
    let error = store.begin(&stored("a")).expect_err("refused");
    assert!(error.message.contains("attachments/sh"), "{error}");
    assert!(error.message.contains("state_dir"), "{error}");
    assert!(store.probe().expect_err("no folder").contains("state_dir"));
    assert!(store.load().is_err());
}
