//! The scalar functions that a lowered statement may call, with SQLite's meaning.
//!
//! Each is a function from cells to a cell ([`Scalar`]), wrapped for the engine row by row. What a statement may call by
//! which name stands in [`SCALARS`]; the names with a leading `__` are what operators are lowered to.

mod compiled;
mod patterns;
mod text;
mod texts;
mod time;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::sync::Arc;

pub(super) use patterns::{pattern_of, pattern_problem};
pub(super) use texts::{SEARCHES, search};
pub(super) use time::fold_constant;

/// The operator that looks into JSON.
pub(super) const JSON_VALUE: &str = "->>";
/// The most texts that a function looks for.
const MAX_WANTED: usize = 10_000;

/// A value as SQLite has them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(Cow<'a, str>),
}

impl<'a> Cell<'a> {
    /// As SQLite casts to text; `None` for NULL.
    pub(super) fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Null => None,
            Self::Integer(number) => Some(Cow::Owned(number.to_string())),
            Self::Real(number) => Some(Cow::Owned(real_text(*number))),
            Self::Text(text) => Some(Cow::Borrowed(text)),
        }
    }

    /// As SQLite casts to integer: the longest number at the beginning, 0 where there is none.
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Self::Null => None,
            Self::Integer(number) => Some(*number),
            // Saturates at the ends, as SQLite does.
            #[expect(clippy::cast_possible_truncation, reason = "casts from f64 saturate")]
            Self::Real(number) => Some(*number as i64),
            Self::Text(text) => Some(text::leading_integer(text)),
        }
    }

    /// As SQLite casts to real.
    pub(super) fn real(&self) -> Option<f64> {
        match self {
            Self::Null => None,
            #[expect(clippy::cast_precision_loss, reason = "as SQLite does")]
            Self::Integer(number) => Some(*number as f64),
            Self::Real(number) => Some(*number),
            Self::Text(text) => Some(text::leading_real(text)),
        }
    }

    fn owned(text: impl Into<String>) -> Self {
        Self::Text(Cow::Owned(text.into()))
    }

    /// The same, borrowed from this.
    pub(super) fn borrowed(&self) -> Cell<'_> {
        match self {
            Self::Null => Cell::Null,
            Self::Integer(number) => Cell::Integer(*number),
            Self::Real(number) => Cell::Real(*number),
            Self::Text(text) => Cell::Text(Cow::Borrowed(text)),
        }
    }
}

fn real_text(number: f64) -> String {
    if number.is_finite() && number == number.trunc() && number.abs() < 1e15 {
        format!("{number:.1}")
    } else {
        number.to_string()
    }
}

/// What a function gives back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gives {
    Text,
    Integer,
    Real,
    /// Integer when the first argument is one, real otherwise.
    Number,
    /// What the first argument is.
    First,
    /// What all arguments can be.
    Common,
    Truth,
}

/// What the values of a column or a call are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Type {
    Text,
    Integer,
}

/// A function from cells to a cell.
pub(super) struct Scalar {
    /// Its name in the engine.
    pub(super) name: &'static str,
    /// How many arguments it takes.
    pub(super) arity: RangeInclusive<usize>,
    gives: Gives,
    /// Whether the same arguments give the same value at any time.
    volatility: Volatility,
    call: for<'a> fn(&'a [Cell<'a>]) -> Result<Cell<'a>, String>,
}

impl Scalar {
    /// Whether it is no pattern and no conversion, and gives the same at any time.
    pub(super) fn is_plain(&self) -> bool {
        self.volatility == Volatility::Immutable && self.gives != Gives::Truth && !self.name.starts_with("__")
    }

    /// What it gives for arguments of these types (nothing stands for one that is NULL), where that is text or a whole number.
    pub(super) fn gives(&self, arguments: &[Option<Type>]) -> Option<Type> {
        let all = |kind| arguments.iter().all(|own| *own == Some(kind));
        match self.gives {
            Gives::Text => Some(Type::Text),
            Gives::Integer => Some(Type::Integer),
            Gives::Real | Gives::Truth => None,
            Gives::Number => arguments.first().copied().flatten().filter(|kind| *kind == Type::Integer),
            Gives::First => arguments.first().copied().flatten(),
            Gives::Common if all(Type::Text) => Some(Type::Text),
            Gives::Common => Some(Type::Integer).filter(|kind| all(*kind)),
        }
    }

    /// Its value as the engine has it, where it gives this type for arguments of theirs.
    ///
    /// # Errors
    /// Why it has none.
    pub(super) fn value<'c>(&self, cells: &[Cell<'_>], gives: Type) -> std::result::Result<Cell<'c>, String> {
        let cell = (self.call)(cells)?;
        Ok(match gives {
            Type::Text => cell.text().map_or(Cell::Null, Cell::owned),
            Type::Integer => cell.integer().map_or(Cell::Null, Cell::Integer),
        })
    }
}

/// The functions that a statement may call.
pub(super) static SCALARS: &[Scalar] = &[
    Scalar { name: "lower", arity: 1..=1, gives: Gives::Text, volatility: Volatility::Immutable, call: text::lower },
    Scalar { name: "upper", arity: 1..=1, gives: Gives::Text, volatility: Volatility::Immutable, call: text::upper },
    Scalar {
        name: "length",
        arity: 1..=1,
        gives: Gives::Integer,
        volatility: Volatility::Immutable,
        call: text::length,
    },
    Scalar { name: "substr", arity: 2..=3, gives: Gives::Text, volatility: Volatility::Immutable, call: text::substr },
    Scalar { name: "instr", arity: 2..=2, gives: Gives::Integer, volatility: Volatility::Immutable, call: text::instr },
    Scalar {
        name: "replace",
        arity: 3..=3,
        gives: Gives::Text,
        volatility: Volatility::Immutable,
        call: text::replace,
    },
    Scalar { name: "trim", arity: 1..=2, gives: Gives::Text, volatility: Volatility::Immutable, call: text::trim },
    Scalar { name: "ltrim", arity: 1..=2, gives: Gives::Text, volatility: Volatility::Immutable, call: text::ltrim },
    Scalar { name: "rtrim", arity: 1..=2, gives: Gives::Text, volatility: Volatility::Immutable, call: text::rtrim },
    Scalar { name: "hex", arity: 1..=1, gives: Gives::Text, volatility: Volatility::Immutable, call: text::hex },
    Scalar { name: "abs", arity: 1..=1, gives: Gives::Number, volatility: Volatility::Immutable, call: text::abs },
    Scalar { name: "round", arity: 1..=2, gives: Gives::Real, volatility: Volatility::Immutable, call: text::round },
    Scalar { name: "date", arity: 0..=10, gives: Gives::Text, volatility: Volatility::Volatile, call: time::date },
    Scalar { name: "time", arity: 0..=10, gives: Gives::Text, volatility: Volatility::Volatile, call: time::time },
    Scalar {
        name: "datetime",
        arity: 0..=10,
        gives: Gives::Text,
        volatility: Volatility::Volatile,
        call: time::datetime,
    },
    Scalar {
        name: "strftime",
        arity: 1..=10,
        gives: Gives::Text,
        volatility: Volatility::Volatile,
        call: time::strftime,
    },
    Scalar {
        name: "unixepoch",
        arity: 0..=10,
        gives: Gives::Integer,
        volatility: Volatility::Volatile,
        call: time::unixepoch,
    },
    Scalar {
        name: "coalesce",
        arity: 2..=100,
        gives: Gives::Common,
        volatility: Volatility::Immutable,
        call: text::coalesce,
    },
    Scalar { name: "nullif", arity: 2..=2, gives: Gives::First, volatility: Volatility::Immutable, call: text::nullif },
    Scalar { name: "glob", arity: 2..=2, gives: Gives::Truth, volatility: Volatility::Immutable, call: patterns::glob },
    Scalar {
        name: "cidr_match",
        arity: 2..=MAX_WANTED + 1,
        gives: Gives::Truth,
        volatility: Volatility::Immutable,
        call: texts::cidr_match,
    },
    Scalar {
        name: "icontains",
        arity: 2..=MAX_WANTED + 1,
        gives: Gives::Truth,
        volatility: Volatility::Immutable,
        call: texts::icontains,
    },
    Scalar {
        name: "iends_with",
        arity: 2..=MAX_WANTED + 1,
        gives: Gives::Truth,
        volatility: Volatility::Immutable,
        call: texts::iends_with,
    },
    Scalar {
        name: "iequals",
        arity: 2..=MAX_WANTED + 1,
        gives: Gives::Truth,
        volatility: Volatility::Immutable,
        call: texts::iequals,
    },
    Scalar {
        name: "istarts_with",
        arity: 2..=MAX_WANTED + 1,
        gives: Gives::Truth,
        volatility: Volatility::Immutable,
        call: texts::istarts_with,
    },
    Scalar {
        name: "json_texts",
        arity: 1..=1,
        gives: Gives::Text,
        volatility: Volatility::Immutable,
        call: texts::json_texts,
    },
    Scalar { name: "number", arity: 1..=1, gives: Gives::Real, volatility: Volatility::Immutable, call: texts::number },
    // An operator, which no statement can call by this name.
    Scalar {
        name: JSON_VALUE,
        arity: 2..=2,
        gives: Gives::Text,
        volatility: Volatility::Immutable,
        call: texts::json_value,
    },
    Scalar {
        name: "__like",
        arity: 2..=3,
        gives: Gives::Truth,
        volatility: Volatility::Immutable,
        call: patterns::like,
    },
    Scalar {
        name: "__regexp",
        arity: 2..=2,
        gives: Gives::Truth,
        volatility: Volatility::Immutable,
        call: patterns::regexp,
    },
    Scalar { name: "__text", arity: 1..=1, gives: Gives::Text, volatility: Volatility::Immutable, call: text::to_text },
    Scalar {
        name: "__integer",
        arity: 1..=1,
        gives: Gives::Integer,
        volatility: Volatility::Immutable,
        call: text::to_integer,
    },
    Scalar {
        name: "__number",
        arity: 1..=1,
        gives: Gives::Number,
        volatility: Volatility::Immutable,
        call: text::to_number,
    },
    Scalar { name: "__real", arity: 1..=1, gives: Gives::Real, volatility: Volatility::Immutable, call: text::to_real },
];

/// Every function for the engine to know.
pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
    SCALARS.iter().map(|scalar| Arc::new(ScalarUDF::new_from_impl(RowByRow::new(scalar)))).collect()
}

/// A [`Scalar`] as the engine calls it.
struct RowByRow {
    scalar: &'static Scalar,
    signature: Signature,
}

impl RowByRow {
    fn new(scalar: &'static Scalar) -> Self {
        let signature = if *scalar.arity.end() == 0 {
            Signature::nullary(scalar.volatility)
        } else if *scalar.arity.start() == 0 {
            Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::VariadicAny], scalar.volatility)
        } else {
            Signature::variadic_any(scalar.volatility)
        };
        Self { scalar, signature }
    }
}

impl std::fmt::Debug for RowByRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.scalar.name)
    }
}

impl PartialEq for RowByRow {
    fn eq(&self, other: &Self) -> bool {
        self.scalar.name == other.scalar.name
    }
}

impl Eq for RowByRow {}

impl Hash for RowByRow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.scalar.name.hash(state);
    }
}

impl ScalarUDFImpl for RowByRow {
    fn name(&self) -> &str {
        self.scalar.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.scalar.gives {
            Gives::Text => DataType::Utf8,
            Gives::Integer => DataType::Int64,
            Gives::Real => DataType::Float64,
            Gives::Truth => DataType::Boolean,
            Gives::Number => match common(arguments.get(..1).unwrap_or_default()) {
                DataType::Int64 => DataType::Int64,
                _ => DataType::Float64,
            },
            Gives::First => common(arguments.get(..1).unwrap_or_default()),
            Gives::Common => common(arguments),
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        // A cast of what is of the type already.
        if let ([only], true) = (arguments.args.as_slice(), self.scalar.name.starts_with("__"))
            && only.data_type() == *arguments.return_type()
        {
            return Ok(only.clone());
        }
        if let Some(matches) = patterns::with_constant_pattern(self.scalar.name, &arguments.args)? {
            return Ok(matches);
        }
        if let Some(matches) = texts::with_constants(self.scalar.name, &arguments.args)? {
            return Ok(matches);
        }
        let columns =
            arguments.args.iter().map(|argument| Argument::new(argument, rows)).collect::<Result<Vec<_>>>()?;
        let mut output = Output::new(arguments.return_type(), rows);
        let mut cells = Vec::with_capacity(columns.len());
        for row in 0..rows {
            cells.clear();
            cells.extend(columns.iter().map(|column| column.cell(row)));
            let value = (self.scalar.call)(&cells)
                .map_err(|why| DataFusionError::Execution(format!("{}: {why}", self.scalar.name)))?;
            output.push(&value);
        }
        Ok(ColumnarValue::Array(output.finish()))
    }
}

/// The type that can hold values of all these types.
fn common(types: &[DataType]) -> DataType {
    let known = || types.iter().filter(|kind| !kind.is_null());
    if known().all(|kind| kind.is_integer() || *kind == DataType::Boolean) {
        DataType::Int64
    } else if known().all(DataType::is_numeric) {
        DataType::Float64
    } else {
        DataType::Utf8
    }
}

/// A column of arguments, or one value for all rows.
enum Argument {
    Column(Column),
    Constant(Column),
}

/// One of the types that cells are read from.
enum Column {
    Null,
    Text(ArrayRef),
    Integer(ArrayRef),
    Real(ArrayRef),
}

impl Argument {
    fn new(value: &ColumnarValue, rows: usize) -> Result<Self> {
        match value {
            ColumnarValue::Array(array) => Ok(Self::Column(Column::new(array)?)),
            ColumnarValue::Scalar(scalar) => {
                Ok(Self::Constant(if rows == 0 { Column::Null } else { Column::new(&scalar.to_array_of_size(1)?)? }))
            }
        }
    }

    fn cell(&self, row: usize) -> Cell<'_> {
        match self {
            Self::Column(column) => column.cell(row),
            Self::Constant(column) => column.cell(0),
        }
    }
}

impl Column {
    fn new(array: &ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Utf8 => Self::Text(Arc::clone(array)),
            DataType::LargeUtf8 | DataType::Utf8View => Self::Text(cast(array, &DataType::Utf8)?),
            DataType::Int64 => Self::Integer(Arc::clone(array)),
            kind if kind.is_integer() || *kind == DataType::Boolean => Self::Integer(cast(array, &DataType::Int64)?),
            kind if kind.is_numeric() => Self::Real(cast(array, &DataType::Float64)?),
            other => return exec_err!("values of type {other} cannot be used here"),
        })
    }

    fn cell(&self, row: usize) -> Cell<'_> {
        match self {
            Self::Null => Cell::Null,
            Self::Text(array) | Self::Integer(array) | Self::Real(array) if array.is_null(row) => Cell::Null,
            Self::Text(array) => Cell::Text(Cow::Borrowed(array.as_string::<i32>().value(row))),
            Self::Integer(array) => Cell::Integer(array.as_primitive::<Int64Type>().value(row)),
            Self::Real(array) => Cell::Real(array.as_primitive::<Float64Type>().value(row)),
        }
    }
}

/// Builds the result column.
enum Output {
    Text(StringBuilder),
    Integer(Int64Builder),
    Real(Float64Builder),
    Truth(BooleanBuilder),
}

impl Output {
    fn new(kind: &DataType, rows: usize) -> Self {
        match kind {
            DataType::Int64 => Self::Integer(Int64Builder::with_capacity(rows)),
            DataType::Float64 => Self::Real(Float64Builder::with_capacity(rows)),
            DataType::Boolean => Self::Truth(BooleanBuilder::with_capacity(rows)),
            _ => Self::Text(StringBuilder::with_capacity(rows, rows * 16)),
        }
    }

    fn push(&mut self, cell: &Cell<'_>) {
        match self {
            Self::Text(builder) => builder.append_option(cell.text()),
            Self::Integer(builder) => builder.append_option(cell.integer()),
            Self::Real(builder) => builder.append_option(cell.real()),
            Self::Truth(builder) => builder.append_option(cell.integer().map(|number| number != 0)),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Text(mut builder) => Arc::new(builder.finish()),
            Self::Integer(mut builder) => Arc::new(builder.finish()),
            Self::Real(mut builder) => Arc::new(builder.finish()),
            Self::Truth(mut builder) => Arc::new(builder.finish()),
        }
    }
}

/// The text of a constant argument.
fn constant_text(value: &ColumnarValue) -> Option<Option<String>> {
    match value {
        ColumnarValue::Scalar(ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text)) => {
            Some(text.clone())
        }
        ColumnarValue::Scalar(ScalarValue::Null) => Some(None),
        _ => None,
    }
}
