//! The table that a run prints.

use std::fmt;

/// A measurement: our value, the peer's value, and the target.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// The name of the scenario.
    pub scenario: String,
    /// The measured quantity, with its unit.
    pub measure: String,
    /// The value of our server.
    pub ours: Cell,
    /// The peer's value.
    pub theirs: Cell,
    /// The target for our value, if there is one.
    pub target: Option<Target>,
}

/// A value of the table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// A number, from which a ratio can be computed.
    Number(f64),
    /// A text.
    Text(String),
    /// A missing measurement.
    None,
}

impl Cell {
    /// The number, if it is one.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<Option<f64>> for Cell {
    fn from(number: Option<f64>) -> Self {
        number.map_or(Self::None, Self::Number)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Three significant digits.
            Self::Number(n) if *n == 0.0 || n.abs() >= 100.0 => write!(f, "{n:.0}"),
            Self::Number(n) if n.abs() >= 10.0 => write!(f, "{n:.1}"),
            Self::Number(n) if n.abs() >= 1.0 => write!(f, "{n:.2}"),
            Self::Number(n) => write!(f, "{n:.3}"),
            Self::Text(text) => f.write_str(text),
            Self::None => f.write_str("-"),
        }
    }
}

/// A condition that a measurement must meet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// The ratio of our value to theirs is at most this.
    RatioAtMost(f64),
    /// The value of our server is at most this.
    AtMost(f64),
    /// The value of our server is exactly this.
    Exactly(f64),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RatioAtMost(ratio) => write!(f, "ratio <= {ratio}"),
            Self::AtMost(most) => write!(f, "<= {most}"),
            Self::Exactly(number) => write!(f, "= {number}"),
        }
    }
}

impl Row {
    /// Makes a row without a target.
    pub(crate) fn new(
        scenario: impl Into<String>,
        measure: impl Into<String>,
        ours: impl Into<Cell>,
        theirs: impl Into<Cell>,
    ) -> Self {
        Self {
            scenario: scenario.into(),
            measure: measure.into(),
            ours: ours.into(),
            theirs: theirs.into(),
            target: None,
        }
    }

    /// Adds a target to the row.
    pub(crate) fn must(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    fn ratio(&self) -> Option<f64> {
        match (self.ours.number(), self.theirs.number()) {
            (Some(ours), Some(theirs)) if theirs != 0.0 => Some(ours / theirs),
            _ => None,
        }
    }

    /// Returns whether the target is met; `None` without a target. A target is not met if nothing
    /// could be measured.
    pub(crate) fn holds(&self) -> Option<bool> {
        let ours = self.ours.number();
        Some(match self.target? {
            Target::RatioAtMost(most) => self.ratio().is_some_and(|ratio| ratio <= most),
            Target::AtMost(most) => ours.is_some_and(|n| n <= most),
            Target::Exactly(number) => ours == Some(number),
        })
    }

    fn cells(&self) -> [String; 7] {
        [
            self.scenario.clone(),
            self.measure.clone(),
            self.ours.to_string(),
            self.theirs.to_string(),
            self.ratio()
                .map_or_else(|| "-".to_owned(), |r| format!("{r:.2}")),
            self.target.map_or_else(String::new, |t| t.to_string()),
            match self.holds() {
                None => String::new(),
                Some(true) => "yes".to_owned(),
                Some(false) => "NO".to_owned(),
            },
        ]
    }
}

/// Renders the rows as an aligned markdown table.
pub(crate) fn render(rows: &[Row]) -> String {
    let head = [
        "scenario", "measure", "ours", "theirs", "ratio", "target", "holds",
    ]
    .map(String::from);
    let lines: Vec<[String; 7]> = std::iter::once(head)
        .chain(rows.iter().map(Row::cells))
        .collect();
    let widths: Vec<usize> = (0..7)
        .map(|column| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (column, cell) in line.iter().enumerate() {
            let fill = " ".repeat(widths[column] - cell.chars().count());
            // Texts are aligned left, numbers right.
            if (2..=4).contains(&column) {
                out += &format!("| {fill}{cell} ");
            } else {
                out += &format!("| {cell}{fill} ");
            }
        }
        out += "|\n";
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(*width);
                out += &if (2..=4).contains(&column) {
                    format!("| {}: ", &dashes[1..])
                } else {
                    format!("| {dashes} ")
                };
            }
            out += "|\n";
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_compared_with_the_values() {
        for (ours, theirs, target, holds) in [
            (2.0, 2.0, Target::RatioAtMost(1.0), true),
            (2.1, 2.0, Target::RatioAtMost(1.0), false),
            (99.0, 1.0, Target::AtMost(100.0), true),
            (101.0, 200.0, Target::AtMost(100.0), false),
            (1.0, 0.0, Target::Exactly(1.0), true),
            (2.0, 0.0, Target::Exactly(1.0), false),
        ] {
            let row = Row::new("s", "m", ours, theirs).must(target);
            assert_eq!(row.holds(), Some(holds), "{row:?}");
        }
        assert_eq!(Row::new("s", "m", 1.0, 1.0).holds(), None);
    }

    #[test]
    fn a_target_without_a_measurement_is_not_met() {
        let ours = Row::new("s", "m", Cell::None, 1.0);
        assert_eq!(ours.clone().must(Target::AtMost(1.0)).holds(), Some(false));
        assert_eq!(ours.must(Target::RatioAtMost(1.0)).holds(), Some(false));
        let theirs = Row::new("s", "m", 1.0, "cannot");
        assert_eq!(theirs.must(Target::RatioAtMost(1.0)).holds(), Some(false));
    }

    #[test]
    fn numbers_keep_three_significant_digits() {
        for (number, text) in [
            (0.0, "0"),
            (0.1234, "0.123"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (1234.5, "1234"),
        ] {
            assert_eq!(Cell::from(number).to_string(), text);
        }
    }

    #[test]
    fn the_table_is_aligned() {
        let rows = [
            Row::new("fanout", "p99 ms", 4.0, 8.0).must(Target::RatioAtMost(1.0)),
            Row::new("join", "all", 1234.0, "cannot"),
        ];
        let table = render(&rows);
        assert!(
            table.contains("| fanout   | p99 ms  | 4.00 |   8.00 |  0.50 | ratio <= 1 | yes   |"),
            "{table}"
        );
        assert!(
            table.contains("| join     | all     | 1234 | cannot |     - |            |       |"),
            "{table}"
        );
        let widths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
        assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "{table}");
    }
}
