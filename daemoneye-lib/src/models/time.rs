//! Times: nanoseconds since 1970-01-01 UTC inside, text outside.
//!
//! SQL sees `YYYY-MM-DD HH:MM:SS.ffffff`, which sorts and compares as text; JSON output sees RFC 3339.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in nanoseconds since 1970-01-01 UTC.
pub fn now_ns() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
    }
}

/// `YYYY-MM-DD HH:MM:SS.ffffff`, as SQL shows and compares times.
pub fn sql_text(ns: i64) -> String {
    format(ns, ' ', "")
}

/// `YYYY-MM-DDTHH:MM:SS.ffffffZ`.
pub fn rfc3339(ns: i64) -> String {
    format(ns, 'T', "Z")
}

fn format(ns: i64, separator: char, suffix: &str) -> String {
    let at = civil(ns);
    format!(
        "{:04}-{:02}-{:02}{separator}{:02}:{:02}:{:02}.{:06}{suffix}",
        at.year(),
        at.month(),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.subsec_nanosecond() / 1_000
    )
}

fn civil(ns: i64) -> DateTime {
    // Every i64 of nanoseconds lies between the years 1677 and 2262, which a timestamp holds.
    Timestamp::from_nanosecond(i128::from(ns)).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(TimeZone::UTC).datetime()
}

/// Reads a UTC time in either form, with or without time of day, seconds or fraction.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let text = text.strip_suffix('Z').unwrap_or(text);
    let at = match text.len() {
        10 => text.parse::<jiff::civil::Date>().ok()?.at(0, 0, 0, 0),
        _ => text.parse::<DateTime>().ok()?,
    };
    let at = at.to_zoned(TimeZone::UTC).ok()?.timestamp();
    i64::try_from(at.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_are_written_and_read() {
        let ns = 1_700_000_000_123_456_000;
        assert_eq!(sql_text(ns), "2023-11-14 22:13:20.123456");
        assert_eq!(rfc3339(ns), "2023-11-14T22:13:20.123456Z");
        assert_eq!(parse(&sql_text(ns)), Some(ns));
        assert_eq!(parse(&rfc3339(ns)), Some(ns));
        assert_eq!(parse("2023-11-14 22:13"), Some(1_699_999_980_000_000_000));
        assert_eq!(parse("2023-11-14"), Some(1_699_920_000_000_000_000));
        assert_eq!(parse("yesterday"), None);
    }

    proptest! {
        #[test]
        fn text_sorts_as_the_times_do(a: i64, b: i64) {
            let (a, b) = (a / 1_000 * 1_000, b / 1_000 * 1_000);
            prop_assert_eq!(sql_text(a).cmp(&sql_text(b)), a.cmp(&b));
            // The extremes of i64 fall outside what whole microseconds can express.
            prop_assert_eq!(parse(&sql_text(a)), Some(a));
        }

        #[test]
        fn any_text_is_read_without_panic(text: String) {
            let _ = parse(&text);
        }
    }
}
