//! A look at one row after the other.

use super::condition::Truth;
use super::index::{Hit, Id, Sight};
use super::{Node, Screen};
use crate::models::event::IdentifiedEvent;

/// What is known of the present row. What was known of another one is told by its number and not cleared.
pub(super) struct Look<'s> {
    screen: &'s Screen,
    /// The number of the present row.
    row: u32,
    /// By leaf, of which row this is known.
    leaves: Vec<(u32, State)>,
    /// By rule, the row that woke it last.
    rules: Vec<u32>,
    woken: Vec<u32>,
    /// By index, the last row that had no value there.
    empty: Vec<u32>,
}

/// What is known of a leaf.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// An index says that it has to be asked.
    Maybe,
    Is(Truth),
}

impl<'s> Look<'s> {
    pub(super) fn at(screen: &'s Screen) -> Self {
        Self {
            screen,
            row: 0,
            leaves: vec![(0, State::Maybe); screen.leaves.len()],
            rules: vec![0; screen.rules.len()],
            woken: Vec::new(),
            empty: vec![0; screen.indexes.len()],
        }
    }

    /// Goes on to this row, and wakes the rules that may be true of it.
    pub(super) fn next(&mut self, row: &IdentifiedEvent) {
        self.row += 1;
        let Self { screen, row: number, leaves, rules, woken, empty } = self;
        let number = *number;
        woken.clone_from(&screen.awake);
        for (index, empty) in screen.indexes.iter().zip(empty) {
            let sight = index.look(row, &mut |leaf, hit| {
                let known = &mut leaves[leaf as usize];
                let is_new = known.0 != number;
                if is_new || known.1 == State::Maybe {
                    *known = (number, if hit == Hit::True { State::Is(Truth::True) } else { State::Maybe });
                }
                if !is_new {
                    return;
                }
                for rule in &screen.wakes[leaf as usize] {
                    let woken_by = &mut rules[*rule as usize];
                    if *woken_by != number {
                        *woken_by = number;
                        woken.push(*rule);
                    }
                }
            });
            if sight == Sight::Null {
                *empty = number;
            }
        }
    }

    /// The next rule that the row woke.
    pub(super) fn woken(&mut self) -> Option<usize> {
        self.woken.pop().map(|rule| rule as usize)
    }

    /// Whether the condition may be true of the present row; what is NULL is not.
    pub(super) fn may_be_true(&mut self, node: &Node, row: &IdentifiedEvent) -> bool {
        match node {
            Node::All(nodes) => nodes.iter().all(|node| self.may_be_true(node, row)),
            Node::Any(nodes) => nodes.iter().any(|node| self.may_be_true(node, row)),
            node => matches!(self.truth(node, row), Truth::True | Truth::Open),
        }
    }

    fn truth(&mut self, node: &Node, row: &IdentifiedEvent) -> Truth {
        match node {
            Node::Open => Truth::Open,
            Node::All(nodes) => self.folded(nodes, row, Truth::False, Truth::True),
            Node::Any(nodes) => self.folded(nodes, row, Truth::True, Truth::False),
            Node::Not(node) => match self.truth(node, row) {
                Truth::True => Truth::False,
                Truth::False => Truth::True,
                other => other,
            },
            Node::IsTrue(node) => match self.truth(node, row) {
                Truth::Null => Truth::False,
                other => other,
            },
            Node::Is(leaf) => self.leaf(*leaf, row),
        }
    }

    /// What several come to of which one of the value `decisive` decides; `otherwise` where none does.
    fn folded(&mut self, nodes: &[Node], row: &IdentifiedEvent, decisive: Truth, otherwise: Truth) -> Truth {
        let mut all = otherwise;
        for node in nodes {
            match self.truth(node, row) {
                truth if truth == decisive => return decisive,
                Truth::Open => all = Truth::Open,
                Truth::Null if all != Truth::Open => all = Truth::Null,
                _ => {}
            }
        }
        all
    }

    fn leaf(&mut self, leaf: Id, row: &IdentifiedEvent) -> Truth {
        let known = &self.screen.leaves[leaf as usize];
        let truth = match (self.leaves[leaf as usize], known.found_by) {
            ((number, State::Is(truth)), _) if number == self.row => return truth,
            ((number, State::Maybe), _) if number == self.row => known.leaf.truth(row),
            (_, Some((index, _))) if self.empty[index] == self.row => Truth::Null,
            (_, Some((_, otherwise))) => return otherwise,
            (_, None) => known.leaf.truth(row),
        };
        self.leaves[leaf as usize] = (self.row, State::Is(truth));
        truth
    }
}
