//! Linux splits root's rights into capabilities, which other users' processes can hold too.

/// Whether this process holds any.
pub(super) fn are_held() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| !(sets.permitted | sets.effective).is_empty())
}
