//! Tables in Markdown, and the few statistics that stand in them.

use std::fmt;
use std::time::Duration;

/// A table; every row has a cell for each column.
pub(super) struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(ToString::to_string).collect(), rows: Vec::new() }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        // The first column is words, the others are figures.
        let rule: String = (0..self.columns.len()).map(|column| if column == 0 { "---|" } else { "---:|" }).collect();
        write!(f, "{}|{rule}\n{}", line(&self.columns), self.rows.iter().map(|row| line(row)).collect::<String>())
    }
}

/// The smallest value that at least so many per cent of them do not exceed (nearest rank); zero when there is none.
pub(super) fn percentile(values: &[Duration], per_cent: usize) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * per_cent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Milliseconds, with decimals where they matter.
pub(super) fn ms(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1000.0;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

/// Megabytes of 1,000,000 bytes.
pub(super) fn mb(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new(&["what", "CPU"]);
        table.row(["a scan".to_owned(), ms(7 * MS)]);
        assert_eq!(table.to_string(), "| what | CPU |\n|---|---:|\n| a scan | 7.00 ms |\n");
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<_> = (1..=200).rev().map(|ms| ms * MS).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 99)), (100 * MS, 198 * MS));
        assert_eq!((percentile(&[3 * MS], 99), percentile(&[], 50)), (3 * MS, Duration::ZERO));
    }

    #[test]
    fn figures_have_the_decimals_that_matter() {
        assert_eq!((ms(MS / 40), ms(1234 * MS)), ("0.03 ms".to_owned(), "1234 ms".to_owned()));
        assert_eq!((mb(99_950_000), mb(30_499)), ("99.9 MB".to_owned(), "0.0 MB".to_owned()));
    }
}
