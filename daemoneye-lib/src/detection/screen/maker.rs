//! From the conditions of all rules to the screens of their tables.

use super::condition::{Condition, Leaf, Truth};
use super::index::{Findable, Id, Index};
use super::{Known, Node, Plan, Screen, Screened};
use crate::models::catalog::Table;
use std::collections::HashMap;
use std::sync::Arc;

/// The screens of all tables for these rules, each with its place among all rules.
pub(super) fn screens<'r>(rules: impl IntoIterator<Item = (usize, &'r Screened)>) -> Vec<Screen> {
    let mut makers: Vec<(Table, Maker<'_>)> = Vec::new();
    for (rule, screened) in rules {
        let known = makers.iter().position(|(table, _)| *table == screened.table);
        let place = known.unwrap_or_else(|| {
            makers.push((screened.table, Maker::default()));
            makers.len() - 1
        });
        makers[place].1.add(rule, screened);
    }
    makers.into_iter().map(|(table, maker)| maker.made(table)).collect()
}

#[derive(Default)]
struct Maker<'r> {
    rules: Vec<Plan>,
    /// The number of each leaf.
    numbers: HashMap<&'r Leaf, Id>,
    leaves: Vec<(&'r Arc<Leaf>, Option<Findable<'r>>)>,
}

/// The leaves of which a rule needs one, and how seldom they are found.
struct Key {
    any: Vec<Id>,
    rarity: usize,
}

impl<'r> Maker<'r> {
    fn add(&mut self, rule: usize, screened: &'r Screened) {
        let node = self.node(&screened.condition);
        let costly = self.is_costly(&node);
        self.rules.push(Plan { rule, types: screened.types, node, costly });
    }

    fn node(&mut self, condition: &'r Condition) -> Node {
        match condition {
            Condition::Open => Node::Open,
            Condition::All(parts) => Node::All(parts.iter().map(|part| self.node(part)).collect()),
            Condition::Any(parts) => Node::Any(parts.iter().map(|part| self.node(part)).collect()),
            Condition::Not(inner) => Node::Not(Box::new(self.node(inner))),
            Condition::IsTrue(inner) => Node::IsTrue(Box::new(self.node(inner))),
            Condition::Is(leaf) => Node::Is(self.leaf(leaf)),
        }
    }

    fn leaf(&mut self, leaf: &'r Arc<Leaf>) -> Id {
        let next = Id::try_from(self.leaves.len()).unwrap_or(Id::MAX);
        let number = *self.numbers.entry(leaf).or_insert(next);
        if number == next {
            self.leaves.push((leaf, Findable::of(leaf)));
        }
        number
    }

    /// Whether asking it can mean more than looking at what the indexes found, or at a value.
    fn is_costly(&self, node: &Node) -> bool {
        match node {
            Node::Open => false,
            Node::All(nodes) | Node::Any(nodes) => nodes.iter().any(|node| self.is_costly(node)),
            Node::Not(node) | Node::IsTrue(node) => self.is_costly(node),
            Node::Is(leaf) => {
                let (leaf, findable) = &self.leaves[*leaf as usize];
                !findable.as_ref().is_some_and(|findable| findable.decides) && leaf.is_costly()
            }
        }
    }

    fn made(self, table: Table) -> Screen {
        let mut wakes = vec![Vec::new(); self.leaves.len()];
        let mut awake = Vec::new();
        for (number, plan) in self.rules.iter().enumerate() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            match self.key(&plan.node) {
                Some(key) => key.any.into_iter().for_each(|leaf| wakes[leaf as usize].push(number)),
                None => awake.push(number),
            }
        }
        let mut leaves = Vec::with_capacity(self.leaves.len());
        let mut findable = Vec::new();
        for (number, (leaf, own)) in self.leaves.into_iter().enumerate() {
            findable.extend(own.map(|own| (Id::try_from(number).unwrap_or(Id::MAX), own)));
            leaves.push(Known { leaf: Arc::clone(leaf), found_by: None });
        }
        let indexes = Index::all(findable);
        for (place, index) in indexes.iter().enumerate() {
            for leaf in index.leaves() {
                let known = &mut leaves[*leaf as usize];
                let otherwise = match known.leaf.as_ref() {
                    Leaf::Among { has_null: true, .. } => Truth::Null,
                    _ => Truth::False,
                };
                known.found_by = Some((place, otherwise));
            }
        }
        Screen { table, rules: self.rules, leaves, indexes, wakes, awake }
    }

    /// The rarest leaves of which one is true wherever the condition is.
    fn key(&self, node: &Node) -> Option<Key> {
        match node {
            Node::Open | Node::Not(_) => None,
            Node::IsTrue(node) => self.key(node),
            Node::Is(leaf) => {
                let findable = self.leaves[*leaf as usize].1.as_ref()?;
                Some(Key { any: vec![*leaf], rarity: findable.rarity })
            }
            Node::All(nodes) => nodes.iter().filter_map(|node| self.key(node)).max_by_key(|key| key.rarity),
            Node::Any(nodes) => {
                let keys = nodes.iter().map(|node| self.key(node)).collect::<Option<Vec<_>>>()?;
                let rarity = keys.iter().map(|key| key.rarity).min()?;
                let mut any: Vec<_> = keys.into_iter().flat_map(|key| key.any).collect();
                any.sort_unstable();
                any.dedup();
                Some(Key { rarity: rarity.saturating_sub(any.len().checked_ilog2().unwrap_or(0) as usize), any })
            }
        }
    }
}
