//! Detachments that wait on disk for the daemon: a pod may go while the daemon is away.
//!
//! One file an attachment in the folder `queue` of the state directory, written beside and renamed
//! into place, so that a reader sees a whole file or none.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::AttachmentKey;

/// Where daemon and plugin keep what has to outlive them, unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/shunt";

/// How the names of files under way begin; readers pass over them.
const UNFINISHED: &str = ".tmp-";

/// The queue in a state directory.
#[derive(Debug, Clone)]
pub struct DetachQueue {
    folder: PathBuf,
}

/// A detachment that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Its file, to be removed when the work is done.
    pub file: PathBuf,
    /// The attachment; `None` when the file is damaged.
    pub key: Option<AttachmentKey>,
}

impl DetachQueue {
    /// The queue of `state_dir`; nothing is made yet.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            folder: state_dir.join("queue"),
        }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts a detachment in; once it returns, the file survives a crash of the machine. Putting the
    /// same one in again changes nothing.
    ///
    /// # Errors
    /// What the file system says; then nothing is in the queue.
    pub fn push(&self, key: &AttachmentKey) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let name = key.short_name();
        let unfinished = self
            .folder
            .join(format!("{UNFINISHED}{name}-{}", std::process::id()));
        let written = fs::File::create(&unfinished).and_then(|mut file| {
            file.write_all(&serde_json::to_vec(key)?)?;
            file.sync_all()?;
            fs::rename(&unfinished, self.folder.join(format!("{name}.json")))?;
            fs::File::open(&self.folder)?.sync_all()
        });
        if written.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(&unfinished);
        }
        written
    }

    /// All that waits, in no order. A queue that was never used is empty.
    ///
    /// # Errors
    /// What the file system says of the folder.
    pub fn waiting(&self) -> io::Result<Vec<Queued>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut waiting = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(UNFINISHED) {
                continue;
            }
            let file = entry.path();
            // What cannot be read now is not damaged: it waits for the next look.
            let Ok(bytes) = fs::read(&file) else {
                continue;
            };
            let key = serde_json::from_slice(&bytes).ok();
            waiting.push(Queued { file, key });
        }
        Ok(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(container: &str) -> AttachmentKey {
        AttachmentKey {
            network: "pods".into(),
            container_id: container.into(),
            ifname: "eth0".into(),
        }
    }

    #[test]
    fn what_is_put_in_comes_out_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let queue = DetachQueue::new(folder.path());
        assert_eq!(queue.waiting().expect("never used"), []);
        queue.push(&key("a")).expect("written");
        queue.push(&key("a")).expect("written again");
        queue.push(&key("b")).expect("written");
        let mut waiting = queue.waiting().expect("read");
        waiting.sort_by(|a, b| a.key.cmp(&b.key));
        let keys: Vec<_> = waiting.iter().map(|queued| queued.key.clone()).collect();
        assert_eq!(keys, [Some(key("a")), Some(key("b"))]);
        fs::remove_file(&waiting[0].file).expect("removed");
        assert_eq!(queue.waiting().expect("read").len(), 1);
    }

    #[test]
    fn a_damaged_file_is_named_and_an_unfinished_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let queue = DetachQueue::new(folder.path());
        queue.push(&key("a")).expect("written");
        fs::write(queue.folder().join("broken.json"), "{\"netw").expect("written");
        fs::write(queue.folder().join(".tmp-x-1"), "{").expect("written");
        let waiting = queue.waiting().expect("read");
        assert_eq!(waiting.len(), 2);
        let damaged = waiting.iter().find(|queued| queued.key.is_none());
        assert!(damaged.is_some_and(|queued| queued.file.ends_with("queue/broken.json")));
    }

    #[test]
    fn nothing_is_left_when_it_cannot_be_written() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("queue"), "no folder").expect("written");
        let queue = DetachQueue::new(folder.path());
        assert!(queue.push(&key("a")).is_err());
        assert!(queue.waiting().is_err());
    }
}
