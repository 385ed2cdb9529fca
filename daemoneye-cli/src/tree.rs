//! Puts processes in the order of their family tree.
//!
//! Links go by key, never by pid. What the host says need not be a tree: a process whose parent is unknown is a root, and
//! a circle is cut at its first member. The depth that is drawn is bounded; descendants beyond it stand at the bound.

use std::collections::HashMap;

/// Deeper descendants are drawn at this depth.
pub(crate) const MAX_DEPTH: usize = 32;

/// A process and its parent, by key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link<'a> {
    pub(crate) key: &'a str,
    pub(crate) parent: Option<&'a str>,
}

/// A process in its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    /// Its place in the list that was given.
    pub(crate) index: usize,
    /// How many ancestors stand above it.
    pub(crate) depth: usize,
    /// The lines that lead to it.
    pub(crate) lines: String,
}

/// Every link exactly once, parents before children, siblings in the given order.
pub(crate) fn grow(links: &[Link<'_>]) -> Vec<Branch> {
    let by_key: HashMap<&str, usize> = links.iter().enumerate().map(|(index, link)| (link.key, index)).collect();
    let parent_of = |index: usize| {
        let parent = links.get(index).and_then(|link| link.parent)?;
        by_key.get(parent).copied().filter(|parent| *parent != index)
    };
    let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
    for index in 0..links.len() {
        if let Some(parent) = parent_of(index) {
            children.entry(parent).or_default().push(index);
        }
    }
    let mut tree = Vec::with_capacity(links.len());
    let mut placed = vec![false; links.len()];
    // After the roots, whatever was not reached belongs to a circle.
    let roots = (0..links.len()).filter(|index| parent_of(*index).is_none());
    for root in roots.chain(0..links.len()) {
        plant(root, &children, &mut placed, &mut tree);
    }
    tree
}

fn plant(root: usize, children: &HashMap<usize, Vec<usize>>, placed: &mut [bool], tree: &mut Vec<Branch>) {
    // (index, depth, the lines of its ancestors, its own line and the one that leads past it to its children)
    let mut waiting = vec![(root, 0, String::new(), ("", ""))];
    while let Some((index, depth, ancestors, (to, past))) = waiting.pop() {
        if placed.get(index).copied().unwrap_or(true) {
            continue;
        }
        placed[index] = true;
        tree.push(Branch { index, depth, lines: format!("{ancestors}{to}") });
        let below = if depth < MAX_DEPTH { format!("{ancestors}{past}") } else { ancestors };
        let offspring = children.get(&index).into_iter().flatten().filter(|child| !placed[**child]);
        let marks = std::iter::once(LAST).chain(std::iter::repeat(MIDDLE));
        waiting.extend(offspring.rev().zip(marks).map(|(child, mark)| (*child, depth + 1, below.clone(), mark)));
    }
}

const MIDDLE: (&str, &str) = ("├─ ", "│  ");
const LAST: (&str, &str) = ("└─ ", "   ");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn draw(links: &[(&str, &str)]) -> String {
        let links: Vec<_> =
            links.iter().map(|(key, parent)| Link { key, parent: Some(*parent).filter(|p| !p.is_empty()) }).collect();
        let line = |branch: Branch| format!("{}{}\n", branch.lines, links[branch.index].key);
        grow(&links).into_iter().map(line).collect()
    }

    #[test]
    fn families_are_drawn_with_their_lines() {
        let host = [
            ("init", ""),
            ("sshd", "init"),
            ("cron", "init"),
            ("sh", "sshd"),
            ("ls", "sh"),
            ("top", "sshd"),
            ("kthreadd", ""),
        ];
        insta::assert_snapshot!(draw(&host), @r"
        init
        ├─ sshd
        │  ├─ sh
        │  │  └─ ls
        │  └─ top
        └─ cron
        kthreadd
        ");
    }

    #[test]
    fn orphans_are_roots_and_circles_are_cut() {
        let host = [("orphan", "gone"), ("self", "self"), ("a", "b"), ("b", "a"), ("c", "b")];
        insta::assert_snapshot!(draw(&host), @r"
        orphan
        self
        a
        └─ b
           └─ c
        ");
    }

    #[test]
    fn the_drawn_depth_is_bounded() {
        let keys: Vec<_> = (0..200).map(|n| n.to_string()).collect();
        let links: Vec<_> =
            (0..200).map(|n| Link { key: &keys[n], parent: n.checked_sub(1).map(|n| keys[n].as_str()) }).collect();
        let tree = grow(&links);
        assert_eq!(tree.len(), 200);
        assert_eq!(tree[199].depth, 199);
        assert!(tree.iter().all(|branch| branch.lines.chars().count() <= 3 * (MAX_DEPTH + 1)));
    }

    proptest! {
        #[test]
        fn every_process_stands_once_whatever_the_links(parents in prop::collection::vec(0usize..12, 0..12)) {
            let keys: Vec<_> = (0..parents.len()).map(|n| n.to_string()).collect();
            let names: Vec<_> = parents.iter().map(ToString::to_string).collect();
            let links: Vec<_> = keys.iter().zip(&names).map(|(key, parent)| Link { key, parent: Some(parent) }).collect();
            let mut indices: Vec<_> = grow(&links).into_iter().map(|branch| branch.index).collect();
            indices.sort_unstable();
            prop_assert_eq!(indices, (0..parents.len()).collect::<Vec<_>>());
        }
    }
}
