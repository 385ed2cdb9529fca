//! Functions on text and numbers, as SQLite's documentation of its core functions defines them.

use super::Cell;

type Given<'a> = &'a [Cell<'a>];
type Result<'a> = std::result::Result<Cell<'a>, String>;

/// Applies `f` to the first argument's text; NULL stays NULL.
fn on_text<'a>(cells: Given<'a>, f: impl FnOnce(&str) -> Cell<'a>) -> Result<'a> {
    Ok(cells.first().and_then(Cell::text).map_or(Cell::Null, |text| f(&text)))
}

pub(super) fn lower<'a>(cells: Given<'a>) -> Result<'a> {
    on_text(cells, |text| Cell::owned(text.to_ascii_lowercase()))
}

pub(super) fn upper<'a>(cells: Given<'a>) -> Result<'a> {
    on_text(cells, |text| Cell::owned(text.to_ascii_uppercase()))
}

pub(super) fn length<'a>(cells: Given<'a>) -> Result<'a> {
    on_text(cells, |text| count(text.chars().count()))
}

fn count<'a>(number: usize) -> Cell<'a> {
    Cell::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

pub(super) fn hex<'a>(cells: Given<'a>) -> Result<'a> {
    // Unlike every other function, hex(NULL) is the empty text.
    let text = cells.first().and_then(Cell::text).unwrap_or_default();
    Ok(Cell::owned(text.bytes().map(|byte| format!("{byte:02X}")).collect::<String>()))
}

/// `substr(text, start [, length])`: positions count from 1, from the end when negative; a negative length takes the
/// characters before the start.
pub(super) fn substr<'a>(cells: Given<'a>) -> Result<'a> {
    let (Some(text), Some(start)) = (cells.first().and_then(Cell::text), cells.get(1).and_then(Cell::integer)) else {
        return Ok(Cell::Null);
    };
    let wanted = match cells.get(2) {
        None => i128::MAX >> 1,
        Some(cell) => match cell.integer() {
            None => return Ok(Cell::Null),
            Some(wanted) => i128::from(wanted),
        },
    };
    let characters = i128::try_from(text.chars().count()).unwrap_or(i128::MAX >> 2);
    // The place before the first wanted character, from 0; a start of 0 stands one place before the text.
    let start = match i128::from(start) {
        start if start < 0 => characters + start,
        start => start - 1,
    };
    let (from, to) = if wanted < 0 { (start + wanted, start) } else { (start, start.saturating_add(wanted)) };
    let from = usize::try_from(from.clamp(0, characters)).unwrap_or(0);
    let to = usize::try_from(to.clamp(0, characters)).unwrap_or(0);
    Ok(Cell::owned(text.chars().skip(from).take(to.saturating_sub(from)).collect::<String>()))
}

pub(super) fn instr<'a>(cells: Given<'a>) -> Result<'a> {
    let (Some(text), Some(part)) = (cells.first().and_then(Cell::text), cells.get(1).and_then(Cell::text)) else {
        return Ok(Cell::Null);
    };
    Ok(text.find(part.as_ref()).map_or(Cell::Integer(0), |at| count(text[..at].chars().count() + 1)))
}

/// The longest text that a function makes.
const MAX_TEXT: usize = 4 << 20;

pub(super) fn replace<'a>(cells: Given<'a>) -> Result<'a> {
    let mut texts = cells.iter().map(Cell::text);
    let (Some(Some(text)), Some(Some(from)), Some(Some(to))) = (texts.next(), texts.next(), texts.next()) else {
        return Ok(Cell::Null);
    };
    if from.is_empty() {
        return Ok(Cell::owned(text));
    }
    let length = text.len() + text.matches(from.as_ref()).count() * to.len();
    if length > MAX_TEXT {
        return Err(format!("the result would be longer than {MAX_TEXT} bytes"));
    }
    Ok(Cell::owned(text.replace(from.as_ref(), &to)))
}

fn trimmed<'a>(cells: Given<'a>, left: bool, right: bool) -> Result<'a> {
    let Some(text) = cells.first().and_then(Cell::text) else { return Ok(Cell::Null) };
    let characters = match cells.get(1) {
        None => " ".into(),
        Some(cell) => match cell.text() {
            None => return Ok(Cell::Null),
            Some(characters) => characters,
        },
    };
    let strip = |c: char| characters.contains(c);
    let mut rest = text.as_ref();
    if left {
        rest = rest.trim_start_matches(strip);
    }
    if right {
        rest = rest.trim_end_matches(strip);
    }
    Ok(Cell::owned(rest))
}

pub(super) fn trim<'a>(cells: Given<'a>) -> Result<'a> {
    trimmed(cells, true, true)
}

pub(super) fn ltrim<'a>(cells: Given<'a>) -> Result<'a> {
    trimmed(cells, true, false)
}

pub(super) fn rtrim<'a>(cells: Given<'a>) -> Result<'a> {
    trimmed(cells, false, true)
}

pub(super) fn abs<'a>(cells: Given<'a>) -> Result<'a> {
    match cells.first() {
        Some(Cell::Integer(number)) => {
            number.checked_abs().map(Cell::Integer).ok_or_else(|| "integer overflow".to_owned())
        }
        Some(other) => Ok(other.real().map_or(Cell::Null, |number| Cell::Real(number.abs()))),
        None => Ok(Cell::Null),
    }
}

pub(super) fn round<'a>(cells: Given<'a>) -> Result<'a> {
    let Some(number) = cells.first().and_then(Cell::real) else { return Ok(Cell::Null) };
    let digits = match cells.get(1) {
        None => 0,
        Some(cell) => match cell.integer() {
            None => return Ok(Cell::Null),
            Some(digits) => digits.clamp(0, 30),
        },
    };
    // Beyond 2^52 a real has no fraction.
    if number.abs() >= 4_503_599_627_370_496.0 {
        return Ok(Cell::Real(number));
    }
    if digits == 0 {
        return Ok(Cell::Real(number.round()));
    }
    let digits = usize::try_from(digits).unwrap_or(0);
    Ok(Cell::Real(format!("{number:.digits$}").parse().unwrap_or(number)))
}

pub(super) fn coalesce<'a>(cells: Given<'a>) -> Result<'a> {
    Ok(cells.iter().find(|cell| **cell != Cell::Null).cloned().unwrap_or(Cell::Null))
}

pub(super) fn nullif<'a>(cells: Given<'a>) -> Result<'a> {
    let (Some(value), Some(other)) = (cells.first(), cells.get(1)) else { return Ok(Cell::Null) };
    let equal = match (value, other) {
        (Cell::Integer(_), Cell::Real(_)) | (Cell::Real(_), Cell::Integer(_)) => value.real() == other.real(),
        _ => value == other,
    };
    Ok(if equal { Cell::Null } else { value.clone() })
}

pub(super) fn to_text<'a>(cells: Given<'a>) -> Result<'a> {
    on_text(cells, |text| Cell::owned(text))
}

pub(super) fn to_integer<'a>(cells: Given<'a>) -> Result<'a> {
    Ok(cells.first().and_then(Cell::integer).map_or(Cell::Null, Cell::Integer))
}

pub(super) fn to_number<'a>(cells: Given<'a>) -> Result<'a> {
    match cells.first() {
        Some(Cell::Integer(number)) => Ok(Cell::Integer(*number)),
        _ => to_real(cells),
    }
}

pub(super) fn to_real<'a>(cells: Given<'a>) -> Result<'a> {
    Ok(cells.first().and_then(Cell::real).map_or(Cell::Null, Cell::Real))
}

/// The integer at the beginning of a text; 0 where there is none; the ends where it is too large.
pub(super) fn leading_integer(text: &str) -> i64 {
    let text = text.trim_start();
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = &digits[..digits.bytes().take_while(u8::is_ascii_digit).count()];
    digits.bytes().fold(0_i64, |number, digit| {
        let digit = i64::from(digit - b'0');
        let number = number.saturating_mul(10);
        if negative { number.saturating_sub(digit) } else { number.saturating_add(digit) }
    })
}

/// The real number at the beginning of a text; 0 where there is none.
pub(super) fn leading_real(text: &str) -> f64 {
    let text = text.trim_start();
    let bytes = text.as_bytes();
    let digits_from = |at: usize| bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let sign = usize::from(matches!(bytes.first(), Some(b'-' | b'+')));
    let mut end = sign + digits_from(sign);
    if bytes.get(end) == Some(&b'.') {
        end += 1 + digits_from(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'-' | b'+')));
        let exponent = digits_from((end + 1 + sign).min(bytes.len()));
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    text[..end].parse().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Cell<'_> {
        Cell::Text(text.into())
    }

    #[test]
    fn substr_counts_as_sqlite_does() {
        for (start, length, expected) in [
            (1, Some(2), "he"),
            (2, None, "ello"),
            (-3, None, "llo"),
            (-3, Some(2), "ll"),
            (0, Some(2), "h"),
            (3, Some(-2), "he"),
            (9, Some(2), ""),
            (-9, Some(6), "he"),
            (1, Some(i64::MAX), "hello"),
        ] {
            let mut cells = vec![text("hello"), Cell::Integer(start)];
            cells.extend(length.map(Cell::Integer));
            assert_eq!(substr(&cells).unwrap(), text(expected), "{start} {length:?}");
        }
    }

    #[test]
    fn numbers_are_read_from_the_beginning() {
        assert_eq!(leading_integer("  -12abc"), -12);
        assert_eq!(leading_integer("abc"), 0);
        assert_eq!(leading_integer("99999999999999999999"), i64::MAX);
        assert_eq!(leading_real("1.5e3x").to_string(), "1500");
        assert_eq!(leading_real("1e").to_string(), "1");
        assert_eq!(leading_real("-.5").to_string(), "-0.5");
        assert_eq!(leading_real("ä").to_string(), "0");
    }

    #[test]
    fn the_rest_is_sqlites_too() {
        assert_eq!(hex(&[text("aÄ")]).unwrap(), text("61C384"));
        assert_eq!(hex(&[Cell::Null]).unwrap(), text(""));
        assert_eq!(instr(&[text("grün"), text("n")]).unwrap(), Cell::Integer(4));
        assert_eq!(trim(&[text("xxaxx"), text("x")]).unwrap(), text("a"));
        assert_eq!(round(&[Cell::Real(2.567), Cell::Integer(1)]).unwrap(), Cell::Real(2.6));
        assert_eq!(lower(&[text("ÄB")]).unwrap(), text("Äb"));
        assert!(abs(&[Cell::Integer(i64::MIN)]).is_err());
        assert_eq!(replace(&[text("aa"), text("a"), text("bc")]).unwrap(), text("bcbc"));
        assert!(replace(&[text(&"a".repeat(10_000)), text("a"), text(&"b".repeat(10_000))]).is_err());
    }
}
