//! The texts of links in `/proc`.

use super::number;

/// What the kernel puts behind the path of what has lost its name; it may as well be the end of a name.
pub(crate) const DELETED: &[u8] = b" (deleted)";

/// The inode number in the text of a namespace, such as `pid:[4026531836]`.
pub(crate) fn namespace(link: &[u8]) -> Option<u64> {
    let open = link.iter().position(|byte| *byte == b'[')?;
    number(link.get(open + 1..)?.strip_suffix(b"]")?)
}

#[cfg(test)]
mod tests {
    use super::namespace;

    #[test]
    fn a_namespace_is_the_number_in_brackets() {
        assert_eq!(namespace(b"pid:[4026531836]"), Some(4_026_531_836));
        for not in ["", "pid:", "pid:[", "pid:[]", "pid:[x]", "pid:[1] ", "]["] {
            assert_eq!(namespace(not.as_bytes()), None, "{not}");
        }
    }
}
