//! Which second-level groups are free, in use, or retired.

use std::collections::VecDeque;

/// How many second-level groups a table has, and what they are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupUse {
    /// The configured number.
    pub limit: u16,
    /// Hold routes longer than /24.
    pub used: u16,
    /// Have collapsed, and wait for the readers to let go of them.
    pub retired: u16,
    /// Have been in use at some time: the most there were at once, counting retired ones.
    pub touched: u16,
}

/// Hands groups out. Every group below `touched` is in use, free or retired.
#[derive(Debug)]
pub(super) struct Groups {
    limit: u16,
    /// For each group that was ever in use, how many routes longer than /24 lie in its /24.
    routes: Vec<u16>,
    free: Vec<u16>,
    /// In the order of their tags: the epoch that every reader must have passed, and the group.
    retired: VecDeque<(u64, u16)>,
}

impl Groups {
    pub(super) fn new(limit: u16) -> Self {
        Self {
            limit,
            routes: Vec::new(),
            free: Vec::new(),
            retired: VecDeque::new(),
        }
    }

    /// A group, a free one rather than one never touched, so that memory is not touched without
    /// need.
    pub(super) fn take(&mut self) -> Option<u16> {
        let group = match self.free.pop() {
            Some(group) => group,
            None => {
                let next = u16::try_from(self.routes.len())
                    .ok()
                    .filter(|next| *next < self.limit)?;
                self.routes.push(0);
                next
            }
        };
        Some(group)
    }

    /// True if a group could be had without touching a new one.
    pub(super) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Counts one more route in a group.
    pub(super) fn add_route(&mut self, group: u16) {
        if let Some(count) = self.routes.get_mut(usize::from(group)) {
            *count += 1;
        }
    }

    /// Counts one route less, and says whether it was the last.
    pub(super) fn remove_route(&mut self, group: u16) -> bool {
        let Some(count) = self.routes.get_mut(usize::from(group)) else {
            return false;
        };
        *count = count.saturating_sub(1);
        *count == 0
    }

    /// Retires a group until the readers have passed epoch `tag`.
    pub(super) fn retire(&mut self, group: u16, tag: u64) {
        self.retired.push_back((tag, group));
    }

    /// Frees what was retired with tags up to `passed`, and says how many groups that were.
    pub(super) fn reclaim(&mut self, passed: u64) -> usize {
        let freed = self.retired.partition_point(|(tag, _)| *tag <= passed);
        self.free
            .extend(self.retired.drain(..freed).map(|(_, group)| group));
        freed
    }

    /// The tag of the group that was retired first.
    pub(super) fn oldest_tag(&self) -> Option<u64> {
        self.retired.front().map(|(tag, _)| *tag)
    }

    pub(super) fn usage(&self) -> GroupUse {
        // All three are at most `limit`, which is a u16.
        let [touched, free, retired] =
            [self.routes.len(), self.free.len(), self.retired.len()].map(|n| n as u16);
        GroupUse {
            limit: self.limit,
            used: touched - free - retired,
            retired,
            touched,
        }
    }

    /// Bytes of heap that the bookkeeping holds.
    pub(super) fn bytes(&self) -> usize {
        (self.routes.capacity() + self.free.capacity()) * size_of::<u16>()
            + self.retired.capacity() * size_of::<(u64, u16)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_goes_round() {
        let mut groups = Groups::new(2);
        assert_eq!(
            (groups.take(), groups.take(), groups.take()),
            (Some(0), Some(1), None)
        );
        groups.add_route(0);
        groups.add_route(0);
        assert!(!groups.remove_route(0));
        assert!(groups.remove_route(0));
        groups.retire(0, 5);
        assert_eq!(
            groups.usage(),
            GroupUse {
                limit: 2,
                used: 1,
                retired: 1,
                touched: 2
            }
        );
        assert_eq!(groups.reclaim(4), 0);
        assert_eq!(groups.take(), None);
        assert_eq!(groups.reclaim(5), 1);
        assert!(groups.has_free());
        assert_eq!(groups.take(), Some(0));
        assert_eq!(
            groups.usage(),
            GroupUse {
                limit: 2,
                used: 2,
                retired: 0,
                touched: 2
            }
        );
    }

    #[test]
    fn no_groups_at_all() {
        assert_eq!(Groups::new(0).take(), None);
    }
}
