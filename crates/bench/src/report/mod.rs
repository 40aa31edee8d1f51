//! What was measured, and how it is told: as a table, as JSON, and in `docs/benchmarks.md`.

mod document;
mod figures;
pub(crate) mod goals;

use std::path::{Path, PathBuf};

pub(crate) use figures::{Figures, Spread};
use goals::Goal;
use serde_json::json;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::Outcome;
use crate::machine::Machine;
use crate::options::Options;

/// A count, to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts of what fits into minutes")]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}

/// Everything that a run of the bench has to say.
pub(crate) struct Report<'a> {
    pub(crate) at: OffsetDateTime,
    pub(crate) machine: Machine,
    pub(crate) options: &'a Options,
    pub(crate) figures: &'a Figures,
    pub(crate) goals: Vec<Goal>,
    pub(crate) failures: &'a [String],
}

impl Report<'_> {
    /// Prints the table, and writes the files.
    pub(crate) fn publish(&self) -> Outcome<()> {
        println!("{}", self.markdown());
        for failure in self.failures {
            println!("FAILED  {failure}");
        }
        let results = root().join("bench/results");
        std::fs::create_dir_all(&results)?;
        let name = self.at.format(format_description!("[year][month][day]T[hour][minute][second]Z.json"))?;
        std::fs::write(results.join(name), format!("{:#}\n", self.json()))?;
        if self.options.partial() || !self.failures.is_empty() {
            eprintln!("docs/benchmarks.md stays as it is: it tells of whole runs that nothing failed in");
            return Ok(());
        }
        document::write(&root().join("docs/benchmarks.md"), &self.markdown())
    }

    fn json(&self) -> serde_json::Value {
        let figures = self.figures.iter().map(|figure| {
            let Spread { median, least, most } = figure.spread();
            json!({
                "name": figure.name, "unit": figure.unit, "values": figure.values,
                "median": median, "min": least, "max": most,
            })
        });
        let goals = self.goals.iter().map(|goal| {
            json!({
                "what": goal.what, "unit": goal.unit, "median": goal.is.median, "min": goal.is.least, "max": goal.is.most,
                "goal": goal.bound.to_string(), "met": goal.met(),
            })
        });
        json!({
            "at": self.at.format(&time::format_description::well_known::Rfc3339).unwrap_or_default(),
            "cpu": self.machine.cpu, "cores": self.machine.cores, "memory_gib": self.machine.memory_gib,
            "rounds": self.options.rounds, "seconds_each": self.options.seconds, "full": self.options.full,
            "figures": figures.collect::<Vec<_>>(),
            "goals": goals.collect::<Vec<_>>(),
            "failures": self.failures,
        })
    }

    fn markdown(&self) -> String {
        let Machine { cpu, cores, memory_gib } = &self.machine;
        let Options { rounds, seconds, full, .. } = self.options;
        let date = allocation_service_layer::wire::date_text(self.at.date());
        let how = if *full { "FULL=1 make bench" } else { "make bench" };
        let mut text = format!(
            "Measured on {date} with `{how}`: {cpu}, {cores} cores, {memory_gib} GiB; rounds: {rounds}, seconds a run: {seconds}; load generator and \
             servers on the same cores.\n\n"
        );
        let goals = self.goals.iter().map(|goal| {
            let Spread { median, least, most } = goal.is;
            let [median, least, most] = [median, least, most].map(number);
            let met = if goal.met() { "yes" } else { "**no**" };
            [
                goal.what.clone(),
                format!("{median} {}", goal.unit),
                format!("{least} – {most}"),
                goal.bound.to_string(),
                met.into(),
            ]
        });
        text.push_str(&table(["what", "median", "spread", "goal", "met"], goals));
        text.push('\n');
        let figures = self.figures.iter().map(|figure| {
            let Spread { median, least, most } = figure.spread();
            let [median, least, most] = [median, least, most].map(number);
            [figure.name.clone(), median, format!("{least} – {most}"), figure.unit.to_owned()]
        });
        text.push_str(&table(["figure", "median", "spread", "unit"], figures));
        text
    }
}

/// The workspace's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A number with about three digits that mean something.
pub(crate) fn number(value: f64) -> String {
    if value.abs() >= 100.0 {
        let digits = format!("{value:.0}");
        let cut = digits.len() % 3;
        let groups = digits.as_bytes()[cut..].chunks(3).map(String::from_utf8_lossy);
        let head = (cut > 0).then(|| digits[..cut].into());
        head.into_iter().chain(groups).collect::<Vec<_>>().join(",")
    } else if value.fract() == 0.0 {
        format!("{value}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// A table that reads well as it is, and as Markdown.
fn table<const N: usize>(heads: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(heads.map(str::to_owned)).chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut lines = Vec::with_capacity(rows.len() + 1);
    for row in &rows {
        lines.push(row.iter().zip(widths).map(|(cell, width)| format!("| {cell:width$} ")).collect::<String>());
    }
    lines.insert(1, widths.iter().map(|width| format!("| {} ", "-".repeat(*width))).collect());
    lines.into_iter().map(|line| line + "|\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_about_three_digits() {
        let texts = [1_234_567.8, 12_345.6, 999.6, 100.0, 42.31, 0.754, 6.0].map(number);
        assert_eq!(texts, ["1,234,568", "12,346", "1,000", "100", "42.3", "0.75", "6"]);
    }

    #[test]
    fn a_table_is_aligned() {
        let rows = [["a".to_owned(), "1 – 2".to_owned()]];
        assert_eq!(table(["name", "x"], rows.into_iter()), "| name | x     |\n| ---- | ----- |\n| a    | 1 – 2 |\n");
    }
}
