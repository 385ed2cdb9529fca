//! A rule's condition as far as it is understood without the engine: columns and constants, patterns, most functions of
//! [`SCALARS`], comparisons of texts and of whole numbers, and what `AND`, `OR` and `NOT` make of them. Whatever else stands
//! in a condition may be true.

use crate::detection::functions::{Cell, SCALARS, SEARCHES, Scalar, Type, pattern_of, search};
use crate::detection::matching::Pattern;
use crate::models::catalog::Table;
use crate::models::columns::{EVENT, Value, event_value};
use crate::models::event::IdentifiedEvent;
use crate::proto::common::EventType;
use crate::proto::ipc::ColumnKind;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};

/// What the compiled patterns of all rules may weigh here, in bytes: a pattern beyond that is left to the engine, where what
/// it needs occurs in the text.
const MAX_WEIGHT: usize = 32 << 20;
pub(super) const EVENT_TYPES: [EventType; 6] =
    [EventType::Unspecified, EventType::Exec, EventType::Fork, EventType::Exit, EventType::Seen, EventType::Changed];

/// What is left of [`MAX_WEIGHT`] while rules are loaded.
pub(in crate::detection) struct Allowance(AtomicUsize);

impl Default for Allowance {
    fn default() -> Self {
        Self::of(MAX_WEIGHT)
    }
}

impl Allowance {
    pub(super) const fn of(weight: usize) -> Self {
        Self(AtomicUsize::new(weight))
    }

    pub(super) fn take(&self, weight: usize) -> bool {
        self.0.fetch_update(Atomic::Relaxed, Atomic::Relaxed, |left| left.checked_sub(weight)).is_ok()
    }
}

/// The bit of a type of event.
pub(super) fn bit(kind: EventType) -> u8 {
    EVENT_TYPES.iter().position(|own| *own == kind).map_or(u8::MAX, |place| 1 << place)
}

/// What a test comes to: as in SQL, or not known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    True,
    False,
    Null,
    Open,
}

impl From<bool> for Truth {
    fn from(truth: bool) -> Self {
        if truth { Self::True } else { Self::False }
    }
}

/// A condition.
#[derive(Debug)]
pub(super) enum Condition {
    /// Not understood.
    Open,
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    /// Whether it is true: what is NULL is not.
    IsTrue(Box<Condition>),
    Is(Arc<Leaf>),
}

/// A condition that is made of no other one.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Leaf {
    Compare(Operand, Comparison, Operand),
    IsNull(Operand),
    Among { value: Operand, values: Values, has_null: bool },
    Matches(Operand, Matching),
}

/// A pattern, with what it is compiled from.
#[derive(Debug)]
pub(super) struct Matching {
    pub(super) function: &'static str,
    pub(super) texts: Vec<String>,
    pub(super) escape: Option<String>,
    /// Absent where the [`Allowance`] was spent: then it is known of no text whether it matches.
    pub(super) pattern: Option<Arc<Pattern>>,
}

impl Matching {
    fn source(&self) -> (&str, &[String], Option<&str>) {
        (self.function, &self.texts, self.escape.as_deref())
    }
}

impl PartialEq for Matching {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl Eq for Matching {}

impl Hash for Matching {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source().hash(state);
    }
}

/// The values of a list, all of one kind.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Values {
    Texts(BTreeSet<String>),
    Integers(BTreeSet<i64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Condition {
    /// Of a condition that was planned over the rows of a table of events; none stands for one that is true of every row.
    pub(super) fn of(planned: Option<&Expr>, table: Table, allowance: &Allowance) -> Self {
        let reader = Reader { columns: table.columns(), allowance };
        planned.map_or_else(|| Self::All(Vec::new()), |planned| reader.condition(planned))
    }

    /// Takes out what asks for the type of an event and for nothing else, where all of the condition needs it: the bits of the
    /// types that are left.
    pub(super) fn take_types(&mut self) -> u8 {
        let mut types = u8::MAX;
        let mut is_other = |part: &Self| match part {
            Self::Is(leaf) => leaf.types().map(|own| types &= own).is_none(),
            _ => true,
        };
        match self {
            Self::All(parts) => parts.retain(is_other),
            whole => {
                if !is_other(whole) {
                    *whole = Self::All(Vec::new());
                }
            }
        }
        types
    }
}

impl Leaf {
    /// What it comes to for a row.
    pub(super) fn truth(&self, row: &IdentifiedEvent) -> Truth {
        match self {
            Self::IsNull(value) => value.cell(row).map_or(Truth::Open, |cell| (cell == Cell::Null).into()),
            Self::Compare(left, comparison, right) => match (left.cell(row), right.cell(row)) {
                (Some(left), Some(right)) => comparison.truth(&left, &right),
                _ => Truth::Open,
            },
            Self::Among { value, values, has_null } => {
                let found = match (value.cell(row), values) {
                    (Some(Cell::Null), _) => return Truth::Null,
                    (Some(Cell::Text(text)), Values::Texts(values)) => values.contains(text.as_ref()),
                    (Some(Cell::Integer(number)), Values::Integers(values)) => values.contains(&number),
                    _ => return Truth::Open,
                };
                if !found && *has_null { Truth::Null } else { found.into() }
            }
            Self::Matches(value, Matching { pattern, .. }) => match (value.cell(row), pattern) {
                (Some(Cell::Null), _) => Truth::Null,
                (Some(cell), Some(pattern)) => cell.text().map_or(Truth::Null, |text| pattern.matches(&text).into()),
                _ => Truth::Open,
            },
        }
    }

    /// Whether asking it means more than looking at a value.
    pub(super) fn is_costly(&self) -> bool {
        let called = |value: &Operand| matches!(value, Operand::Call(..));
        match self {
            Self::Matches(..) => true,
            Self::Compare(left, _, right) => called(left) || called(right),
            Self::IsNull(value) | Self::Among { value, .. } => called(value),
        }
    }

    /// The bits of the types of events of which it is true, where it asks for nothing else.
    fn types(&self) -> Option<u8> {
        let types = EVENT.iter().position(|column| column.name == "event_type");
        let of = |names: &dyn Fn(&str) -> bool| {
            EVENT_TYPES.iter().filter(|kind| names(kind.name())).fold(0, |bits, kind| bits | bit(*kind))
        };
        match self {
            Self::Among { value: Operand::Column(column, _), values: Values::Texts(values), .. }
                if Some(*column) == types =>
            {
                Some(of(&|name| values.contains(name)))
            }
            Self::Compare(Operand::Column(column, _), Comparison::Equal, Operand::Text(text))
                if Some(*column) == types =>
            {
                Some(of(&|name| name == &**text))
            }
            _ => None,
        }
    }
}

impl Comparison {
    fn of(operator: Operator) -> Option<Self> {
        Some(match operator {
            Operator::Eq => Self::Equal,
            Operator::NotEq => Self::Unequal,
            Operator::Lt => Self::Less,
            Operator::LtEq => Self::LessOrEqual,
            Operator::Gt => Self::Greater,
            Operator::GtEq => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    fn truth(self, left: &Cell<'_>, right: &Cell<'_>) -> Truth {
        let ordering = match (left, right) {
            (Cell::Null, _) | (_, Cell::Null) => return Truth::Null,
            (Cell::Text(left), Cell::Text(right)) => left.as_bytes().cmp(right.as_bytes()),
            (Cell::Integer(left), Cell::Integer(right)) => left.cmp(right),
            _ => return Truth::Open,
        };
        let holds = match self {
            Self::Equal => ordering == Ordering::Equal,
            Self::Unequal => ordering != Ordering::Equal,
            Self::Less => ordering == Ordering::Less,
            Self::LessOrEqual => ordering != Ordering::Greater,
            Self::Greater => ordering == Ordering::Greater,
            Self::GreaterOrEqual => ordering != Ordering::Less,
        };
        holds.into()
    }
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operand {
    Column(usize, Type),
    Null,
    Text(Box<str>),
    Integer(i64),
    Call(&'static Scalar, Vec<Operand>, Type),
}

impl Operand {
    /// The value; nothing where the function fails on this row.
    pub(super) fn cell<'r>(&'r self, row: &'r IdentifiedEvent) -> Option<Cell<'r>> {
        match self {
            Self::Column(column, kind) => Some(match (event_value(row, *column), kind) {
                (Value::Text(text), Type::Text) => Cell::Text(text),
                (Value::Integer(number), Type::Integer) => Cell::Integer(number),
                // As it is where columns are built: what is not of the column's kind is NULL.
                _ => Cell::Null,
            }),
            Self::Null => Some(Cell::Null),
            Self::Text(text) => Some(Cell::Text(Cow::Borrowed(text))),
            Self::Integer(number) => Some(Cell::Integer(*number)),
            Self::Call(scalar, arguments, kind) => {
                let cells = arguments.iter().map(|argument| argument.cell(row)).collect::<Option<Vec<_>>>()?;
                scalar.value(&cells, *kind).ok()
            }
        }
    }

    /// What its values are where they are not NULL; nothing of what is always NULL.
    pub(super) fn kind(&self) -> Option<Type> {
        match self {
            Self::Column(_, kind) | Self::Call(_, _, kind) => Some(*kind),
            Self::Text(_) => Some(Type::Text),
            Self::Integer(_) => Some(Type::Integer),
            Self::Null => None,
        }
    }
}

/// Reads a planned condition.
struct Reader<'a> {
    columns: Vec<(&'static str, ColumnKind)>,
    allowance: &'a Allowance,
}

impl Reader<'_> {
    fn condition(&self, expr: &Expr) -> Condition {
        self.understood(expr).unwrap_or(Condition::Open)
    }

    fn understood(&self, expr: &Expr) -> Option<Condition> {
        let is = |leaf| Condition::Is(Arc::new(leaf));
        let not = |condition| Condition::Not(Box::new(condition));
        Some(match expr {
            Expr::Not(inner) => not(self.condition(inner)),
            Expr::IsTrue(inner) => Condition::IsTrue(Box::new(self.condition(inner))),
            Expr::IsNotTrue(inner) => not(Condition::IsTrue(Box::new(self.condition(inner)))),
            Expr::IsNull(inner) => is(Leaf::IsNull(self.operand(inner)?)),
            Expr::IsNotNull(inner) => not(is(Leaf::IsNull(self.operand(inner)?))),
            Expr::BinaryExpr(BinaryExpr { op: Operator::And, .. }) => {
                let parts = operands(expr, Operator::And).into_iter().map(|part| self.condition(part));
                Condition::All(parts.collect())
            }
            Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => {
                let parts = operands(expr, Operator::Or).into_iter().map(|part| self.condition(part));
                Condition::Any(parts.collect())
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let comparison = Comparison::of(*op)?;
                let (left, right) = (self.operand(left)?, self.operand(right)?);
                // Of what is not of one kind the engine has made one in a way of its own.
                if left.kind()? != right.kind()? {
                    return None;
                }
                is(Leaf::Compare(left, comparison, right))
            }
            Expr::InList(list) => {
                let value = self.operand(&list.expr)?;
                let kind = value.kind()?;
                let mut values = match kind {
                    Type::Text => Values::Texts(BTreeSet::new()),
                    Type::Integer => Values::Integers(BTreeSet::new()),
                };
                let mut has_null = false;
                for item in &list.list {
                    match (constant(item)?, &mut values) {
                        (Cell::Null, _) => has_null = true,
                        (Cell::Text(text), Values::Texts(values)) => drop(values.insert(text.into_owned())),
                        (Cell::Integer(number), Values::Integers(values)) => drop(values.insert(number)),
                        _ => return None,
                    }
                }
                let among = is(Leaf::Among { value, values, has_null });
                if list.negated { not(among) } else { among }
            }
            Expr::ScalarFunction(call) if matches!(call.func.name(), "__like" | "__regexp" | "glob") => {
                let (pattern, value) = (call.args.first()?, self.operand(call.args.get(1)?)?);
                let Cell::Text(text) = constant(pattern)? else { return None };
                let escape = match call.args.get(2).map(constant) {
                    None => None,
                    Some(Some(Cell::Text(escape))) => Some(escape.into_owned()),
                    Some(_) => return None,
                };
                let function = SCALARS.iter().find(|scalar| scalar.name == call.func.name())?.name;
                let (pattern, weight) = pattern_of(function, &text, escape.as_deref())?;
                value.kind()?;
                let pattern = self.allowance.take(weight).then_some(pattern);
                is(Leaf::Matches(value, Matching { function, texts: vec![text.into_owned()], escape, pattern }))
            }
            Expr::ScalarFunction(call) if SEARCHES.contains(&call.func.name()) => {
                let function = SEARCHES.into_iter().find(|name| *name == call.func.name())?;
                let (value, wanted) = call.args.split_first()?;
                let value = self.operand(value)?;
                let text = |argument| match constant(argument)? {
                    Cell::Text(text) => Some(text.into_owned()),
                    _ => None,
                };
                let texts = wanted.iter().map(text).collect::<Option<Vec<_>>>()?;
                let (pattern, weight) = search(function, &texts).ok()?;
                value.kind()?;
                let pattern = self.allowance.take(weight).then(|| Arc::new(pattern));
                is(Leaf::Matches(value, Matching { function, texts, escape: None, pattern }))
            }
            _ => return None,
        })
    }

    fn operand(&self, expr: &Expr) -> Option<Operand> {
        Some(match expr {
            Expr::Column(column) => {
                let place = self.columns.iter().position(|(name, _)| *name == column.name)?;
                let kind = match self.columns.get(place)?.1 {
                    ColumnKind::Text | ColumnKind::Json => Type::Text,
                    ColumnKind::Integer | ColumnKind::Boolean => Type::Integer,
                    // Times are compared as texts, which are not made here.
                    ColumnKind::Time | ColumnKind::Real => return None,
                };
                Operand::Column(place, kind)
            }
            Expr::Literal(..) => match constant(expr)? {
                Cell::Text(text) => Operand::Text(text.into()),
                Cell::Integer(number) => Operand::Integer(number),
                _ => Operand::Null,
            },
            Expr::ScalarFunction(call) => {
                let scalar = SCALARS.iter().find(|scalar| scalar.name == call.func.name() && scalar.is_plain())?;
                let arguments = call.args.iter().map(|argument| self.operand(argument)).collect::<Option<Vec<_>>>()?;
                let kinds: Vec<_> = arguments.iter().map(Operand::kind).collect();
                let kind = scalar.gives(&kinds)?;
                Operand::Call(scalar, arguments, kind)
            }
            _ => return None,
        })
    }
}

/// What is bound together by this operator, however deep.
fn operands(expr: &Expr, operator: Operator) -> Vec<&Expr> {
    let (mut found, mut waiting) = (Vec::new(), vec![expr]);
    while let Some(expr) = waiting.pop() {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if *op == operator => {
                waiting.extend([right.as_ref(), left.as_ref()]);
            }
            other => found.push(other),
        }
    }
    found
}

fn constant(expr: &Expr) -> Option<Cell<'static>> {
    let Expr::Literal(literal, _) = expr else { return None };
    Some(match literal {
        ScalarValue::Null | ScalarValue::Utf8(None) | ScalarValue::Int64(None) => Cell::Null,
        ScalarValue::Utf8(Some(text)) => Cell::Text(text.clone().into()),
        ScalarValue::Int64(Some(number)) => Cell::Integer(*number),
        _ => return None,
    })
}
