//! Shows where in a text of SQL something is wrong.

use daemoneye_lib::models::text::for_terminal;
use unicode_width::UnicodeWidthStr;

/// So much of a line is shown before the place when the whole line does not fit.
const CONTEXT: usize = 24;

/// The line of `text` with a caret below the column, both counted from 1, columns in characters; none where there is no
/// such line. A line that is wider than the screen is cut on both sides.
pub(crate) fn excerpt(text: &str, line: u32, column: u32, width: usize) -> Option<String> {
    let number = usize::try_from(line).ok()?;
    let column = usize::try_from(column).ok()?.checked_sub(1)?;
    let source = text.lines().nth(number.checked_sub(1)?)?;
    let pieces: Vec<String> = source.chars().map(piece).collect();
    let column = column.min(pieces.len());

    let gutter = number.to_string().len();
    let room = width.saturating_sub(gutter + 4).max(2 * CONTEXT);
    let widths = |pieces: &[String]| pieces.iter().map(|piece| piece.width()).sum::<usize>();
    let fits = widths(&pieces) <= room;
    let start = if fits { 0 } else { column.saturating_sub(CONTEXT) };
    let mut shown = String::new();
    let mut used = usize::from(start > 0);
    if start > 0 {
        shown.push('…');
    }
    let indent = used + widths(&pieces[start..column]);
    for piece in &pieces[start..] {
        if !fits && used + piece.width() >= room {
            shown.push('…');
            break;
        }
        used += piece.width();
        shown.push_str(piece);
    }
    Some(format!("{:gutter$} |\n{number} | {shown}\n{:gutter$} | {:indent$}^\n", "", "", ""))
}

/// A character as it is shown: a tab as four blanks, so that the caret stands where it should.
fn piece(c: char) -> String {
    match c {
        '\t' => "    ".to_owned(),
        _ => for_terminal(c.encode_utf8(&mut [0; 4])).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::excerpt;
    use proptest::prelude::*;

    #[test]
    fn the_caret_stands_below_the_place() {
        insta::assert_snapshot!(excerpt("SELECT 1,\n\tpidd -- 世界\nFROM processes", 2, 2, 80).unwrap(), @r"
          |
        2 |     pidd -- 世界
          |     ^
        ");
    }

    #[test]
    fn wide_and_hostile_characters_keep_the_caret_in_place() {
        insta::assert_snapshot!(excerpt("'世界\x1b' x", 1, 7, 80).unwrap(), @r"
          |
        1 | '世界\u{1b}' x
          |              ^
        ");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let sql = format!("SELECT {} FROM x", "abcdefg, ".repeat(40));
        let shown = excerpt(&sql, 1, 200, 60).unwrap();
        insta::assert_snapshot!(shown, @r"
          |
        1 | …g, abcdefg, abcdefg, abcdefg, abcdefg, abcdefg, abcde…
          |                          ^
        ");
        assert!(shown.lines().all(|line| line.chars().count() <= 60));
    }

    #[test]
    fn a_place_outside_the_text_has_no_excerpt() {
        assert_eq!(excerpt("SELECT", 0, 0, 80), None);
        assert_eq!(excerpt("SELECT", 2, 1, 80), None);
        assert!(excerpt("SELECT", 1, 99, 80).is_some());
    }

    proptest! {
        #[test]
        fn no_place_in_any_text_is_too_much(text: String, line in 0u32..4, column: u32, width in 0usize..200) {
            let _ = excerpt(&text, line, column, width);
        }
    }
}
