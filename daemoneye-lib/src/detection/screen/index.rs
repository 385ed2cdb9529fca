//! From the values of a row to the leaves that are true of it: one pass over each text finds the needles of all rules at once,
//! one look-up finds whatever asks for the value itself.

use super::condition::{Comparison, Leaf, Operand, Values};
use super::needle::{Case, Needle, Needles, Place, rarity};
use crate::detection::functions::{Cell, Type};
use crate::models::event::IdentifiedEvent;
use aho_corasick::{AhoCorasick, MatchKind};
use std::collections::HashMap;

/// A leaf by its place in the list of all.
pub(super) type Id = u32;

/// What all leaves ask of one value of a row: a column's, or what a function makes of it.
pub(super) struct Index {
    value: Operand,
    /// Those that ask.
    leaves: Vec<Id>,
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

/// What an index sees of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    Value,
    /// There is no value.
    Null,
}

/// How a leaf can be found by an index.
pub(super) struct Findable<'l> {
    /// What it asks for.
    value: &'l Operand,
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

impl<'l> Findable<'l> {
    /// How this leaf can be found; nothing where it has to be asked itself.
    pub(super) fn of(leaf: &'l Leaf) -> Option<Self> {
        let (value, by, rarity) = match leaf {
            Leaf::Matches(value, matching) if value.kind() == Some(Type::Text) => {
                let needles = Needles::of(matching)?;
                let rarity = needles.rarity();
                (value, By::Needles(needles), rarity)
            }
            Leaf::Among { value, values: Values::Texts(values), .. } => {
                let texts = values.iter().map(|text| text.as_str().into()).collect();
                (value, By::Texts(texts), WHOLE + rarity(values.iter().map(String::len)))
            }
            Leaf::Among { value, values: Values::Integers(values), .. } => {
                (value, By::Integers(values.iter().copied().collect()), NUMBER)
            }
            Leaf::Compare(value, Comparison::Equal, Operand::Text(text))
            | Leaf::Compare(Operand::Text(text), Comparison::Equal, value) => {
                (value, By::Texts(vec![text.clone()]), WHOLE + text.len())
            }
            Leaf::Compare(value, Comparison::Equal, Operand::Integer(number))
            | Leaf::Compare(Operand::Integer(number), Comparison::Equal, value) => {
                (value, By::Integers(vec![*number]), NUMBER)
            }
            _ => return None,
        };
        // A constant is no matter of the row.
        if !matches!(value, Operand::Column(..) | Operand::Call(..)) {
            return None;
        }
        let decides = !matches!(&by, By::Needles(Needles { decide: false, .. }));
        Some(Self { value, rarity, decides, by })
    }
}

impl Index {
    /// The indexes of these leaves, one for each value.
    pub(super) fn all<'l>(leaves: impl IntoIterator<Item = (Id, Findable<'l>)>) -> Vec<Self> {
        let mut places: HashMap<&Operand, usize> = HashMap::new();
        let mut makers: Vec<(&Operand, Maker)> = Vec::new();
        for (leaf, findable) in leaves {
            let place = *places.entry(findable.value).or_insert_with(|| {
                makers.push((findable.value, Maker::default()));
                makers.len() - 1
            });
            makers[place].1.add(leaf, findable.by);
        }
        makers.into_iter().map(|(value, maker)| maker.made(value.clone())).collect()
    }

    /// The leaves that it finds.
    pub(super) fn leaves(&self) -> &[Id] {
        &self.leaves
    }

    /// Tells of the leaves that are true of this row, or may be.
    pub(super) fn look(&self, row: &IdentifiedEvent, found: &mut dyn FnMut(Id, Hit)) -> Sight {
        match self.value.cell(row) {
            Some(Cell::Text(text)) => self.look_at(&text, found),
            Some(Cell::Integer(number)) => {
                self.integers.get(&number).into_iter().flatten().for_each(|leaf| found(*leaf, Hit::True));
            }
            Some(Cell::Null) => return Sight::Null,
            // What its function makes of the row is for each of them to say.
            Some(Cell::Real(_)) | None => self.leaves.iter().for_each(|leaf| found(*leaf, Hit::Maybe)),
        }
        Sight::Value
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
    leaves: Vec<Id>,
    numbers: HashMap<String, usize>,
    needles: Vec<Vec<Sought>>,
    texts: HashMap<Box<str>, Vec<Id>>,
    integers: HashMap<i64, Vec<Id>>,
}

impl Maker {
    fn add(&mut self, leaf: Id, by: By) {
        self.leaves.push(leaf);
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

    fn made(self, value: Operand) -> Index {
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
        let Self { leaves, needles, texts, integers, .. } = self;
        let has_lower = needles.iter().flatten().any(|sought| sought.lower);
        Index { value, leaves, automaton, needles, unfound, has_lower, texts, integers }
    }
}
