//! How wide the columns of a table may be, and text cut or wrapped to a width. Pure functions over widths and text.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Between two columns.
pub(super) const GAP: usize = 2;
/// A column of text is never narrower than this, unless its text is.
const LEAST: usize = 8;

/// What a column would like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    /// The width of its widest cell.
    pub(super) natural: usize,
    /// Whether its cells may be cut: text may, a number or a time may not.
    pub(super) text: bool,
}

/// A width for each column so that a line fits into `total`; none when they do not fit side by side. Short columns get what
/// they want, the long ones of text share the rest.
pub(super) fn fit(wishes: &[Wish], total: usize) -> Option<Vec<usize>> {
    let available = total.checked_sub(GAP * wishes.len().saturating_sub(1))?;
    let widths =
        |cap: usize| wishes.iter().map(move |wish| if wish.text { wish.natural.min(cap) } else { wish.natural });
    let fits = |cap: usize| widths(cap).sum::<usize>() <= available;
    if !fits(LEAST) {
        return None;
    }
    let cap = (LEAST..=available.max(LEAST)).rev().find(|cap| fits(*cap))?;
    let mut chosen: Vec<_> = widths(cap).collect();
    let mut left = available - chosen.iter().sum::<usize>();
    // From the last, because there the longest text stands: what dividing left over.
    for (width, wish) in chosen.iter_mut().zip(wishes).rev().filter(|(_, wish)| wish.text) {
        let more = left.min(wish.natural.saturating_sub(*width));
        *width += more;
        left -= more;
    }
    Some(chosen)
}

/// The text, cut with `…` when it is wider than `width`.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 0;
    let kept = text.chars().take_while(|c| {
        used += c.width().unwrap_or(0);
        used < width
    });
    kept.chain(std::iter::once('…')).collect()
}

/// The text in lines of at most `width`.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide > width && used > 0 {
            lines.push(String::new());
            used = 0;
        }
        used += wide;
        if let Some(line) = lines.last_mut() {
            line.push(c);
        }
    }
    lines
}

/// The same, broken between words wherever a word is not wider than a line; the blanks at a break are left out.
pub(super) fn wrap_words(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.pop().unwrap_or_default();
        let joined = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if joined.width() <= width {
            lines.push(joined);
            continue;
        }
        lines.extend(Some(line).filter(|line| !line.is_empty()));
        lines.extend(wrap(word, width));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn widths(wishes: &[(usize, bool)], total: usize) -> Option<Vec<usize>> {
        let wishes: Vec<_> = wishes.iter().map(|(natural, text)| Wish { natural: *natural, text: *text }).collect();
        fit(&wishes, total)
    }

    #[test]
    fn short_columns_get_what_they_want_and_long_ones_share_the_rest() {
        assert_eq!(widths(&[(5, false), (10, true)], 40), Some(vec![5, 10]));
        assert_eq!(widths(&[(5, false), (10, true), (100, true)], 40), Some(vec![5, 10, 21]));
        assert_eq!(widths(&[(5, false), (90, true), (100, true)], 40), Some(vec![5, 15, 16]));
        assert_eq!(widths(&[(26, false), (26, false)], 40), None);
        assert_eq!(widths(&[(9, true); 45], 120), None);
        assert_eq!(widths(&[], 40), Some(vec![]));
    }

    #[test]
    fn text_is_cut_by_its_width_on_the_screen() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 5), "abcd…");
        assert_eq!(cut("世界世界", 5), "世界…");
        assert_eq!(cut("世界世界", 4), "世…");
        assert_eq!(wrap("世界abc", 4), ["世界", "abc"]);
    }

    #[test]
    fn words_stay_whole_where_they_can() {
        assert_eq!(wrap_words("a long and winding road", 9), ["a long", "and", "winding", "road"]);
        assert_eq!(wrap_words("a/very/long/path is", 6), ["a/very", "/long/", "path", "is"]);
        assert_eq!(wrap_words("", 6), [""]);
    }

    proptest! {
        #[test]
        fn whatever_fits_fits(wishes in prop::collection::vec((0usize..300, any::<bool>()), 0..20), total in 0usize..300) {
            if let Some(chosen) = widths(&wishes, total) {
                prop_assert!(chosen.iter().sum::<usize>() + GAP * chosen.len().saturating_sub(1) <= total);
                prop_assert!(chosen.iter().zip(&wishes).all(|(width, (natural, _))| width <= natural));
            }
        }

        #[test]
        fn cut_text_fits(text: String, width in 1usize..40) {
            let shown = cut(&text, width);
            let columns = shown.chars().map(|c| c.width().unwrap_or(0)).sum::<usize>();
            prop_assert!(shown == text || columns <= width);
            let columns = |line: &String| line.chars().map(|c| c.width().unwrap_or(0)).sum::<usize>();
            prop_assert!(wrap_words(&text, width.max(2)).iter().all(|line| columns(line) <= width.max(2)));
            prop_assert_eq!(wrap_words(&text, width.max(2)).concat().replace(' ', ""), text.replace(' ', ""));
            prop_assert_eq!(wrap(&text, width).concat(), text);
        }
    }
}
