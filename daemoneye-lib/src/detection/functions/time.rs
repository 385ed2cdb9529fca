//! Date and time functions, after SQLite's documentation: a time value, then modifiers from left to right.
//!
//! Time values are UTC: `YYYY-MM-DD`, with `HH:MM`, `:SS` and a fraction where given, `now`, or a number of seconds with the
//! modifier `unixepoch`. Anything else gives NULL, as do unknown modifiers.

use super::Cell;
use crate::models::time as times;
use jiff::civil::DateTime;
use jiff::{SignedDuration, Span, Timestamp, tz::TimeZone};

type Given<'a> = &'a [Cell<'a>];
type Result<'a> = std::result::Result<Cell<'a>, String>;

pub(super) fn date<'a>(cells: Given<'a>) -> Result<'a> {
    Ok(shown(cells, times::now_ns(), "%Y-%m-%d"))
}

pub(super) fn time<'a>(cells: Given<'a>) -> Result<'a> {
    Ok(shown(cells, times::now_ns(), "%H:%M:%S"))
}

pub(super) fn datetime<'a>(cells: Given<'a>) -> Result<'a> {
    Ok(shown(cells, times::now_ns(), DATETIME))
}

pub(super) fn strftime<'a>(cells: Given<'a>) -> Result<'a> {
    Ok(strftime_at(cells, times::now_ns()))
}

pub(super) fn unixepoch<'a>(cells: Given<'a>) -> Result<'a> {
    Ok(instant(cells, times::now_ns()).map_or(Cell::Null, seconds))
}

const DATETIME: &str = "%Y-%m-%d %H:%M:%S";

/// The value of a time function whose arguments are known when the statement is planned, so that `now` is one moment for the
/// whole statement; `None` when the function is another.
pub(in crate::detection) fn fold_constant(function: &str, cells: &[Cell<'_>], now: i64) -> Option<Cell<'static>> {
    let folded = match function {
        "date" => shown(cells, now, "%Y-%m-%d"),
        "time" => shown(cells, now, "%H:%M:%S"),
        "datetime" => shown(cells, now, DATETIME),
        "strftime" => strftime_at(cells, now),
        "unixepoch" => instant(cells, now).map_or(Cell::Null, seconds),
        _ => return None,
    };
    Some(folded)
}

fn strftime_at(cells: &[Cell<'_>], now: i64) -> Cell<'static> {
    match cells.split_first() {
        Some((format, rest)) => match format.text() {
            Some(format) => shown(rest, now, &format),
            None => Cell::Null,
        },
        None => Cell::Null,
    }
}

fn seconds(at: DateTime) -> Cell<'static> {
    at.to_zoned(TimeZone::UTC).map_or(Cell::Null, |at| Cell::Integer(at.timestamp().as_second()))
}

fn shown(cells: &[Cell<'_>], now: i64, format: &str) -> Cell<'static> {
    instant(cells, now).and_then(|at| formatted(at, format)).map_or(Cell::Null, Cell::owned)
}

/// SQLite's own set of conversions; another one gives NULL.
fn formatted(at: DateTime, format: &str) -> Option<String> {
    use std::fmt::Write as _;
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let written = match chars.next()? {
            'd' => write!(out, "{:02}", at.day()),
            'e' => write!(out, "{:2}", at.day()),
            'f' => write!(out, "{:02}.{:03}", at.second(), at.subsec_nanosecond() / 1_000_000),
            'F' => write!(out, "{:04}-{:02}-{:02}", at.year(), at.month(), at.day()),
            'H' => write!(out, "{:02}", at.hour()),
            'I' => write!(out, "{:02}", (at.hour() + 11) % 12 + 1),
            'j' => write!(out, "{:03}", at.day_of_year()),
            'm' => write!(out, "{:02}", at.month()),
            'M' => write!(out, "{:02}", at.minute()),
            'p' => write!(out, "{}", if at.hour() < 12 { "AM" } else { "PM" }),
            'P' => write!(out, "{}", if at.hour() < 12 { "am" } else { "pm" }),
            'R' => write!(out, "{:02}:{:02}", at.hour(), at.minute()),
            's' => write!(out, "{}", at.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second()),
            'S' => write!(out, "{:02}", at.second()),
            'T' => write!(out, "{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second()),
            'u' => write!(out, "{}", at.weekday().to_monday_one_offset()),
            'w' => write!(out, "{}", at.weekday().to_sunday_zero_offset()),
            'Y' => write!(out, "{:04}", at.year()),
            '%' => write!(out, "%"),
            _ => return None,
        };
        written.ok()?;
    }
    Some(out)
}

fn instant(cells: &[Cell<'_>], now: i64) -> Option<DateTime> {
    let (value, modifiers) = cells.split_first().map_or((&NOW, cells), |(value, modifiers)| (value, modifiers));
    let texts: Option<Vec<_>> = modifiers.iter().map(Cell::text).collect();
    let texts = texts?;
    let mut texts = texts.iter().map(|text| text.trim().to_ascii_lowercase()).peekable();
    let value = value.text()?;
    let value = value.trim();
    let mut at = if texts.next_if(|modifier| modifier == "unixepoch").is_some() {
        let seconds: f64 = value.parse().ok()?;
        let since = SignedDuration::try_from_secs_f64(seconds).ok()?;
        Timestamp::UNIX_EPOCH.checked_add(since).ok()?.to_zoned(TimeZone::UTC).datetime()
    } else if value.eq_ignore_ascii_case("now") {
        civil(now)?
    } else {
        // A time alone means a day in the year 2000.
        times::parse(value).or_else(|| times::parse(&format!("2000-01-01 {value}"))).and_then(civil)?
    };
    for modifier in texts {
        at = modified(at, &modifier)?;
    }
    Some(at)
}

static NOW: Cell<'static> = Cell::Text(std::borrow::Cow::Borrowed("now"));

fn civil(ns: i64) -> Option<DateTime> {
    Some(Timestamp::from_nanosecond(i128::from(ns)).ok()?.to_zoned(TimeZone::UTC).datetime())
}

fn modified(at: DateTime, modifier: &str) -> Option<DateTime> {
    match modifier {
        "start of day" => return at.with().hour(0).minute(0).second(0).subsec_nanosecond(0).build().ok(),
        "start of month" => return modified(at, "start of day")?.with().day(1).build().ok(),
        "start of year" => return modified(at, "start of month")?.with().month(1).build().ok(),
        // Everything is UTC here.
        "utc" | "auto" | "subsec" => return Some(at),
        _ => {}
    }
    let (number, unit) = modifier.split_once(char::is_whitespace)?;
    let number: f64 = number.parse().ok().filter(|number: &f64| number.is_finite())?;
    let unit = unit.trim();
    let unit = unit.strip_suffix('s').unwrap_or(unit);
    let exact = |seconds: f64| {
        let duration = SignedDuration::try_from_secs_f64(number * seconds).ok()?;
        at.checked_add(duration).ok()
    };
    match unit {
        "second" => exact(1.0),
        "minute" => exact(60.0),
        "hour" => exact(3_600.0),
        "day" => exact(86_400.0),
        "month" | "year" => {
            // Whole months only; a day that the month lacks runs over into the next, as in SQLite.
            #[expect(
                clippy::cast_possible_truncation,
                reason = "casts from f64 saturate, and the span checks its range"
            )]
            let months = (number * if unit == "year" { 12.0 } else { 1.0 }) as i64;
            let day = at.day();
            let first = at.with().day(1).build().ok()?;
            let first = first.checked_add(Span::new().try_months(months).ok()?).ok()?;
            first.checked_add(Span::new().days(i64::from(day) - 1)).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_123_456_000; // 2023-11-14 22:13:20

    fn folded(function: &str, arguments: &[&str]) -> Option<String> {
        let cells: Vec<_> = arguments.iter().map(|text| Cell::Text((*text).into())).collect();
        fold_constant(function, &cells, NOW).unwrap().text().map(String::from)
    }

    #[test]
    fn times_and_modifiers_are_sqlites() {
        for (function, arguments, expected) in [
            ("datetime", &["now"][..], Some("2023-11-14 22:13:20")),
            ("datetime", &[], Some("2023-11-14 22:13:20")),
            ("datetime", &["now", "-5 minutes"], Some("2023-11-14 22:08:20")),
            ("datetime", &["now", "start of month", "+1 month", "-1 day"], Some("2023-11-30 00:00:00")),
            ("date", &["2024-01-31", "+1 month"], Some("2024-03-02")),
            ("time", &["12:30"], Some("12:30:00")),
            ("datetime", &["1700000000", "unixepoch"], Some("2023-11-14 22:13:20")),
            ("unixepoch", &["2023-11-14 22:13:20.123456"], Some("1700000000")),
            ("strftime", &["%Y/%j %H:%M %w", "now"], Some("2023/318 22:13 2")),
            ("strftime", &["%Q", "now"], None),
            ("datetime", &["nonsense"], None),
            ("datetime", &["now", "+1 fortnight"], None),
            ("datetime", &["now", "+99999999999 years"], None),
        ] {
            assert_eq!(folded(function, arguments).as_deref(), expected, "{function} {arguments:?}");
        }
    }
}
