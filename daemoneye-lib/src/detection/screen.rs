//! The screen before the engine: of which rows a standing rule may be true, told from the records themselves.
//!
//! The engine looks at columns, and setting them up costs more than looking at a few rows, nearly all of which no rule is true
//! of. So a rule's condition is first followed row by row, as far as it is understood here: columns and constants, patterns,
//! most functions of [`SCALARS`], comparisons of texts and of whole numbers, and what `AND`, `OR` and `NOT` make of them.
//! Whatever else stands in a condition may be true. The rows of which the condition may be true go to the engine, which
//! alone says what matches: the screen can cost time, never a match.
//!
//! A row that is left out here is not met by the rest of its condition either, so a function that would have failed on it
//! does not fail.

use super::functions::{Cell, SCALARS, SEARCHES, Scalar, Type, pattern_of, search};
use super::matching::Pattern;
use crate::models::catalog::Table;
use crate::models::columns::{EVENT, Value, event_value};
use crate::models::event::{Event, IdentifiedEvent};
use crate::proto::common::EventType;
use crate::proto::ipc::ColumnKind;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};

/// What the compiled patterns of all rules may weigh here, in bytes: a pattern beyond that is left to the engine.
const MAX_WEIGHT: usize = 32 << 20;
const EVENT_TYPES: [EventType; 6] =
    [EventType::Unspecified, EventType::Exec, EventType::Fork, EventType::Exit, EventType::Seen, EventType::Changed];

/// What is left of [`MAX_WEIGHT`] while rules are loaded.
pub(super) struct Allowance(AtomicUsize);

impl Default for Allowance {
    fn default() -> Self {
        Self(AtomicUsize::new(MAX_WEIGHT))
    }
}

impl Allowance {
    fn take(&self, weight: usize) -> bool {
        self.0.fetch_update(Atomic::Relaxed, Atomic::Relaxed, |left| left.checked_sub(weight)).is_ok()
    }
}

/// A condition as far as it is understood.
pub(super) struct Screen {
    /// Of events of processes: the bits of the types that the condition asks for, where it does.
    types: u8,
    /// Each of them is needed.
    tests: Vec<Test>,
}

impl Screen {
    /// What can be told of a condition, absent where a rule has none, over the rows of a table of events.
    pub(super) fn of(condition: Option<&Expr>, table: Table, allowance: &Allowance) -> Self {
        let reader = Reader { columns: table.columns(), allowance };
        let test = condition.map(|condition| reader.test(condition));
        let mut tests = match test {
            None => Vec::new(),
            Some(Test::All(tests)) => tests,
            Some(test) => vec![test],
        };
        let mut types = u8::MAX;
        if table == Table::ProcessEvents {
            // The type is looked at for every row and every rule, so it is made a bit; the tests need not ask again.
            tests.retain(|test| match test.types() {
                Some(own) => {
                    types &= own;
                    false
                }
                None => true,
            });
        }
        Self { types, tests }
    }

    /// Whether the condition may be true of this event of its table.
    pub(super) fn may_match(&self, event: &IdentifiedEvent) -> bool {
        if let Event::Process(event) = &event.event
            && self.types & bit(event.event_type()) == 0
        {
            return false;
        }
        self.tests.iter().all(|test| test.may_be_true(event))
    }
}

/// The bit of a type of event.
fn bit(kind: EventType) -> u8 {
    EVENT_TYPES.iter().position(|own| *own == kind).map_or(u8::MAX, |place| 1 << place)
}

/// What a test comes to: as in SQL, or not known here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Truth {
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

enum Test {
    /// Not understood.
    Open,
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    /// Whether it is true: what is NULL is not.
    IsTrue(Box<Test>),
    Compare(Operand, Comparison, Operand),
    IsNull(Operand),
    Among {
        value: Operand,
        values: Values,
        has_null: bool,
    },
    Matches(Operand, Arc<Pattern>),
}

/// The values of a list, all of one kind.
enum Values {
    Texts(HashSet<String>),
    Integers(HashSet<i64>),
}

#[derive(Clone, Copy)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Test {
    /// Whether it may be true; what is NULL is not.
    fn may_be_true(&self, row: &IdentifiedEvent) -> bool {
        match self {
            Self::All(tests) => tests.iter().all(|test| test.may_be_true(row)),
            Self::Any(tests) => tests.iter().any(|test| test.may_be_true(row)),
            test => matches!(test.truth(row), Truth::True | Truth::Open),
        }
    }

    fn truth(&self, row: &IdentifiedEvent) -> Truth {
        match self {
            Self::Open => Truth::Open,
            Self::All(tests) => folded(tests, row, Truth::False, Truth::True),
            Self::Any(tests) => folded(tests, row, Truth::True, Truth::False),
            Self::Not(test) => match test.truth(row) {
                Truth::True => Truth::False,
                Truth::False => Truth::True,
                other => other,
            },
            Self::IsTrue(test) => match test.truth(row) {
                Truth::Null => Truth::False,
                other => other,
            },
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
            Self::Matches(value, pattern) => match value.cell(row) {
                None => Truth::Open,
                Some(cell) => cell.text().map_or(Truth::Null, |text| pattern.matches(&text).into()),
            },
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
            Self::Compare(Operand::Column(column, _), Comparison::Equal, Operand::Constant(Cell::Text(text)))
                if Some(*column) == types =>
            {
                Some(of(&|name| name == text))
            }
            _ => None,
        }
    }
}

/// What several tests come to of which one of the value `decisive` decides; `otherwise` where none does.
fn folded(tests: &[Test], row: &IdentifiedEvent, decisive: Truth, otherwise: Truth) -> Truth {
    let mut all = otherwise;
    for test in tests {
        match test.truth(row) {
            truth if truth == decisive => return decisive,
            Truth::Open => all = Truth::Open,
            Truth::Null if all != Truth::Open => all = Truth::Null,
            _ => {}
        }
    }
    all
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
enum Operand {
    Column(usize, Type),
    Constant(Cell<'static>),
    Call(&'static Scalar, Vec<Operand>, Type),
}

impl Operand {
    /// The value; nothing where the function fails on this row.
    fn cell<'r>(&'r self, row: &'r IdentifiedEvent) -> Option<Cell<'r>> {
        match self {
            Self::Column(column, kind) => Some(match (event_value(row, *column), kind) {
                (Value::Text(text), Type::Text) => Cell::Text(text),
                (Value::Integer(number), Type::Integer) => Cell::Integer(number),
                // As it is where columns are built: what is not of the column's kind is NULL.
                _ => Cell::Null,
            }),
            Self::Constant(cell) => Some(cell.borrowed()),
            Self::Call(scalar, arguments, kind) => {
                let cells = arguments.iter().map(|argument| argument.cell(row)).collect::<Option<Vec<_>>>()?;
                scalar.value(&cells, *kind).ok()
            }
        }
    }

    /// What its values are where they are not NULL; nothing of what is always NULL.
    fn kind(&self) -> Option<Type> {
        match self {
            Self::Column(_, kind) | Self::Call(_, _, kind) => Some(*kind),
            Self::Constant(Cell::Text(_)) => Some(Type::Text),
            Self::Constant(Cell::Integer(_)) => Some(Type::Integer),
            Self::Constant(_) => None,
        }
    }
}

/// Reads a planned condition.
struct Reader<'a> {
    columns: Vec<(&'static str, ColumnKind)>,
    allowance: &'a Allowance,
}

impl Reader<'_> {
    fn test(&self, expr: &Expr) -> Test {
        self.understood(expr).unwrap_or(Test::Open)
    }

    fn understood(&self, expr: &Expr) -> Option<Test> {
        Some(match expr {
            Expr::Not(inner) => Test::Not(Box::new(self.test(inner))),
            Expr::IsTrue(inner) => Test::IsTrue(Box::new(self.test(inner))),
            Expr::IsNotTrue(inner) => Test::Not(Box::new(Test::IsTrue(Box::new(self.test(inner))))),
            Expr::IsNull(inner) => Test::IsNull(self.operand(inner)?),
            Expr::IsNotNull(inner) => Test::Not(Box::new(Test::IsNull(self.operand(inner)?))),
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                let mut tests = Vec::new();
                for side in [left, right] {
                    match self.test(side) {
                        Test::All(more) => tests.extend(more),
                        test => tests.push(test),
                    }
                }
                Test::All(tests)
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                let mut tests = Vec::new();
                for side in [left, right] {
                    match self.test(side) {
                        Test::Any(more) => tests.extend(more),
                        test => tests.push(test),
                    }
                }
                Test::Any(tests)
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let comparison = Comparison::of(*op)?;
                let (left, right) = (self.operand(left)?, self.operand(right)?);
                // Of what is not of one kind the engine has made one in a way of its own.
                if left.kind()? != right.kind()? {
                    return None;
                }
                Test::Compare(left, comparison, right)
            }
            Expr::InList(list) => {
                let value = self.operand(&list.expr)?;
                let kind = value.kind()?;
                let mut values = match kind {
                    Type::Text => Values::Texts(HashSet::with_capacity(list.list.len())),
                    Type::Integer => Values::Integers(HashSet::with_capacity(list.list.len())),
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
                let among = Test::Among { value, values, has_null };
                if list.negated { Test::Not(Box::new(among)) } else { among }
            }
            Expr::ScalarFunction(call) if matches!(call.func.name(), "__like" | "__regexp" | "glob") => {
                let (pattern, value) = (call.args.first()?, self.operand(call.args.get(1)?)?);
                let Cell::Text(pattern) = constant(pattern)? else { return None };
                let escape = match call.args.get(2).map(constant) {
                    None => None,
                    Some(Some(Cell::Text(escape))) => Some(escape),
                    Some(_) => return None,
                };
                let scalar = SCALARS.iter().find(|scalar| scalar.name == call.func.name())?;
                let (pattern, weight) = pattern_of(scalar.name, &pattern, escape.as_deref())?;
                value.kind().filter(|_| self.allowance.take(weight))?;
                Test::Matches(value, pattern)
            }
            Expr::ScalarFunction(call) if SEARCHES.contains(&call.func.name()) => {
                let (value, wanted) = call.args.split_first()?;
                let value = self.operand(value)?;
                let text = |argument| match constant(argument)? {
                    Cell::Text(text) => Some(text),
                    _ => None,
                };
                let wanted = wanted.iter().map(text).collect::<Option<Vec<_>>>()?;
                let (pattern, weight) = search(call.func.name(), &wanted).ok()?;
                value.kind().filter(|_| self.allowance.take(weight))?;
                Test::Matches(value, Arc::new(pattern))
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
            Expr::Literal(..) => Operand::Constant(constant(expr)?),
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

fn constant(expr: &Expr) -> Option<Cell<'static>> {
    let Expr::Literal(literal, _) = expr else { return None };
    Some(match literal {
        ScalarValue::Null | ScalarValue::Utf8(None) | ScalarValue::Int64(None) => Cell::Null,
        ScalarValue::Utf8(Some(text)) => Cell::Text(text.clone().into()),
        ScalarValue::Int64(Some(number)) => Cell::Integer(*number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::engine::Form;
    use crate::detection::rules::load_dir;
    use crate::proto::common::{ProcessEvent, ProcessRecord};
    use std::path::Path;

    /// The shipped rules that may be true of an event of this type, of a command that no rule is about.
    fn left_to_the_engine(event_type: EventType) -> Vec<String> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let rules = runtime.block_on(load_dir(&directory)).unwrap().rules;
        let process = ProcessRecord {
            name: Some("ls".to_owned()),
            executable_path: Some("/usr/bin/ls".to_owned()),
            command_line: Some("ls -l /srv".to_owned()),
            parent_name: Some("bash".to_owned()),
            parent_command_line: Some("bash".to_owned()),
            file_exists: Some(true),
            image_mismatch: Some(false),
            ..ProcessRecord::default()
        };
        let event = ProcessEvent { event_type: event_type.into(), event_time: 1, process: Some(process) };
        let event = IdentifiedEvent { event_id: "e-1".to_owned(), event: event.into() };
        let standing = rules.iter().filter_map(|rule| match &rule.form {
            Form::Standing(standing) => Some((rule.rule.id.clone(), standing)),
            Form::Scheduled(_) => None,
        });
        assert!(standing.clone().count() >= 40);
        standing.filter(|(_, standing)| standing.may_match(&event)).map(|(id, _)| id).collect()
    }

    #[test]
    fn no_shipped_rule_leaves_the_everyday_to_the_engine() {
        for event_type in EVENT_TYPES {
            assert_eq!(left_to_the_engine(event_type), [""; 0], "{event_type:?}");
        }
    }

    #[test]
    fn patterns_beyond_the_allowance_are_left_to_the_engine() {
        let allowance = Allowance(AtomicUsize::new(10));
        assert!(allowance.take(4) && !allowance.take(7) && allowance.take(6) && !allowance.take(1));
    }
}
