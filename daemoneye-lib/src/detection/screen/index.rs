//! From the values of a row to the leaves that are true of it: one pass over each text finds the needles of all rules at once,
//! one look-up finds whatever asks for the value itself.

use super::condition::{Comparison, Leaf, Operand, Values};
use super::needle::{Case, Needle, Needles, Place, rarity};
use crate::detection::functions::Type;
use crate::models::columns::{Value, event_value};
use crate::models::event::IdentifiedEvent;
use aho_corasick::{AhoCorasick, MatchKind};
use std::collections::HashMap;

/// A leaf by its place in the list of all.
pub(super) type Id = u32;

/// What is asked of one column, by all leaves.
pub(super) struct Index {
    column: usize,
    automaton: Option<AhoCorasick>,
    /// By the number of the needle in the automaton.
    needles: Vec<Vec<Sought>>,
    /// Leaves whose needles are not in the automaton.
    unfound: Vec<Id>,
    /// Some are looked for in lower case.
    has_lower: bool,
    texts: HashMap<Box<str>, Vec<Id>>,
    integers: HashMap<i64, Vec<Id>>,
}

/// A needle of a leaf.
struct Sought {
    leaf: Id,
    at: Place,
    /// How it is written, where case counts.
    written: Option<Box<str>>,
    /// It is looked for in the text's lower case.
    lower: bool,
    decides: bool,
}

/// What an index finds of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hit {
    /// It is true.
    True,
    /// It may be.
    Maybe,
}

/// How a leaf can be found by an index.
pub(super) struct Findable {
    pub(super) column: usize,
    /// How seldom it is found, roughly.
    pub(super) rarity: usize,
    /// It is true where it is found.
    pub(super) decides: bool,
    by: By,
}

enum By {
    Needles(Needles),
    Texts(Vec<Box<str>>),
    Integers(Vec<i64>),
}

/// By so much a whole text is rarer than a piece of one.
const WHOLE: usize = 2;
/// Numbers are mostly flags, users and the like.
const NUMBER: usize = 2;

impl Findable {
    /// How this leaf can be found; nothing where it has to be asked itself.
    pub(super) fn of(leaf: &Leaf) -> Option<Self> {
        let (column, by, rarity) = match leaf {
            Leaf::Matches(Operand::Column(column, Type::Text), matching) => {
                let needles = Needles::of(matching)?;
                let rarity = needles.rarity();
                (column, By::Needles(needles), rarity)
            }
            Leaf::Among { value: Operand::Column(column, _), values: Values::Texts(values), .. } => {
                let texts = values.iter().map(|text| text.as_str().into()).collect();
                (column, By::Texts(texts), WHOLE + rarity(values.iter().map(String::len)))
            }
            Leaf::Among { value: Operand::Column(column, _), values: Values::Integers(values), .. } => {
                (column, By::Integers(values.iter().copied().collect()), NUMBER)
            }
            Leaf::Compare(Operand::Column(column, _), Comparison::Equal, Operand::Text(text))
            | Leaf::Compare(Operand::Text(text), Comparison::Equal, Operand::Column(column, _)) => {
                (column, By::Texts(vec![text.clone()]), WHOLE + text.len())
            }
            Leaf::Compare(Operand::Column(column, _), Comparison::Equal, Operand::Integer(number))
            | Leaf::Compare(Operand::Integer(number), Comparison::Equal, Operand::Column(column, _)) => {
                (column, By::Integers(vec![*number]), NUMBER)
            }
            _ => return None,
        };
        let decides = !matches!(&by, By::Needles(Needles { decide: false, .. }));
        Some(Self { column: *column, rarity, decides, by })
    }
}

impl Index {
    /// The indexes of these leaves, one for each column.
    pub(super) fn all(leaves: Vec<(Id, Findable)>) -> Vec<Self> {
        let mut makers: HashMap<usize, Maker> = HashMap::new();
        for (leaf, findable) in leaves {
            makers.entry(findable.column).or_default().add(leaf, findable.by);
        }
        let mut indexes: Vec<_> = makers.into_iter().map(|(column, maker)| maker.made(column)).collect();
        indexes.sort_by_key(|index| index.column);
        indexes
    }

    pub(super) const fn column(&self) -> usize {
        self.column
    }

    /// Tells of the leaves that are true of this row, or may be; false where the row has no value here.
    pub(super) fn look(&self, row: &IdentifiedEvent, found: &mut dyn FnMut(Id, Hit)) -> bool {
        match event_value(row, self.column) {
            Value::Text(text) => self.look_at(&text, found),
            Value::Integer(number) => {
                self.integers.get(&number).into_iter().flatten().for_each(|leaf| found(*leaf, Hit::True));
            }
            Value::Null | Value::Real(_) => return false,
        }
        true
    }

    fn look_at(&self, text: &str, found: &mut dyn FnMut(Id, Hit)) {
        self.texts.get(text).into_iter().flatten().for_each(|leaf| found(*leaf, Hit::True));
        self.unfound.iter().for_each(|leaf| found(*leaf, Hit::Maybe));
        let Some(automaton) = &self.automaton else { return };
        if text.is_ascii() {
            self.occurrences(automaton, text, |_| true, found);
        } else {
            self.occurrences(automaton, text, |sought| !sought.lower, found);
            if self.has_lower {
                self.occurrences(automaton, &text.to_lowercase(), |sought| sought.lower, found);
            }
        }
    }

    fn occurrences(
        &self,
        automaton: &AhoCorasick,
        text: &str,
        wanted: impl Fn(&Sought) -> bool,
        found: &mut dyn FnMut(Id, Hit),
    ) {
        for occurrence in automaton.find_overlapping_iter(text) {
            let (start, end) = (occurrence.start(), occurrence.end());
            let is_there = |sought: &&Sought| {
                let is_written = |written: &str| text.as_bytes().get(start..end) == Some(written.as_bytes());
                wanted(sought)
                    && sought.at.holds(start, end, text.len())
                    && sought.written.as_deref().is_none_or(is_written)
            };
            let sought = self.needles.get(occurrence.pattern().as_usize()).into_iter().flatten();
            sought
                .filter(is_there)
                .for_each(|sought| found(sought.leaf, if sought.decides { Hit::True } else { Hit::Maybe }));
        }
    }
}

/// Makes an index.
#[derive(Default)]
struct Maker {
    numbers: HashMap<String, usize>,
    needles: Vec<Vec<Sought>>,
    texts: HashMap<Box<str>, Vec<Id>>,
    integers: HashMap<i64, Vec<Id>>,
}

impl Maker {
    fn add(&mut self, leaf: Id, by: By) {
        match by {
            By::Needles(Needles { any, decide }) => {
                for Needle { text, at, case } in any {
                    let written = (case == Case::Exact).then(|| text.as_str().into());
                    let next = self.needles.len();
                    let number = *self.numbers.entry(text.to_ascii_lowercase()).or_insert(next);
                    if number == next {
                        self.needles.push(Vec::new());
                    }
                    self.needles[number].push(Sought {
                        leaf,
                        at,
                        written,
                        lower: case == Case::Lower,
                        decides: decide,
                    });
                }
            }
            By::Texts(texts) => texts.into_iter().for_each(|text| self.texts.entry(text).or_default().push(leaf)),
            By::Integers(numbers) => {
                numbers.into_iter().for_each(|number| self.integers.entry(number).or_default().push(leaf));
            }
        }
    }

    fn made(self, column: usize) -> Index {
        let mut patterns = vec![""; self.needles.len()];
        for (text, number) in &self.numbers {
            patterns[*number] = text;
        }
        let mut builder = AhoCorasick::builder();
        builder.ascii_case_insensitive(true).match_kind(MatchKind::Standard);
        let (automaton, unfound) = match builder.build(patterns) {
            Ok(automaton) => (Some(automaton).filter(|automaton| automaton.patterns_len() > 0), Vec::new()),
            // Too large: each of them has to be asked itself.
            Err(_) => (None, self.needles.iter().flatten().map(|sought| sought.leaf).collect()),
        };
        let Self { needles, texts, integers, .. } = self;
        let has_lower = needles.iter().flatten().any(|sought| sought.lower);
        Index { column, automaton, needles, unfound, has_lower, texts, integers }
    }
}
