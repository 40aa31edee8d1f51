//! The figures of a run: for each name the values of all rounds.

use super::number;

/// Values of one thing, one a round.
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) values: Vec<f64>,
}

impl Figure {
    pub(crate) fn spread(&self) -> Spread {
        Spread::of(&self.values)
    }
}

/// The middle of several values, and their ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else {
            return Self { median: f64::NAN, least: f64::NAN, most: f64::NAN };
        };
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Self { median, least, most }
    }
}

/// All of them, in the order in which they were first measured.
#[derive(Default)]
pub(crate) struct Figures(Vec<Figure>);

impl Figures {
    /// Adds a value, and says so.
    pub(crate) fn add(&mut self, name: &str, unit: &'static str, value: f64) {
        eprintln!("    {}", format!("{name}: {} {unit}", number(value)).trim_end());
        match self.0.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.values.push(value),
            None => self.0.push(Figure { name: name.to_owned(), unit, values: vec![value] }),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Figure> {
        self.0.iter()
    }

    /// The values of all rounds; none when it was not measured.
    pub(crate) fn values(&self, name: &str) -> Option<&[f64]> {
        self.0.iter().find(|figure| figure.name == name).map(|figure| figure.values.as_slice())
    }

    /// The value of the round at hand.
    pub(crate) fn last(&self, name: &str) -> Option<f64> {
        self.values(name)?.last().copied()
    }

    pub(crate) fn spread(&self, name: &str) -> Option<Spread> {
        self.values(name).map(Spread::of)
    }

    /// One to another, round by round, so that the machine's drift between rounds falls out.
    pub(crate) fn ratio(&self, of: &str, to: &str) -> Option<Spread> {
        let (of, to) = (self.values(of)?, self.values(to)?);
        if of.len() != to.len() {
            return Some(Spread::of(&[Spread::of(of).median / Spread::of(to).median]));
        }
        Some(Spread::of(&of.iter().zip(to).map(|(of, to)| of / to).collect::<Vec<_>>()))
    }

    /// Of figures whose names begin so, the one with the highest median.
    pub(crate) fn best(&self, prefix: &str) -> Option<&str> {
        let some = self.0.iter().filter(|figure| figure.name.starts_with(prefix));
        let best = some.max_by(|a, b| a.spread().median.total_cmp(&b.spread().median));
        best.map(|figure| figure.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let mut figures = Figures::default();
        for (a, b) in [(10.0, 10.0), (5.0, 10.0), (40.0, 20.0)] {
            figures.add("a", "", a);
            figures.add("b", "", b);
        }
        assert_eq!(figures.ratio("a", "b"), Some(Spread { median: 1.0, least: 0.5, most: 2.0 }));
        assert_eq!(figures.ratio("a", "c"), None);
    }

    #[test]
    fn the_middle_of_two_lies_between_them() {
        assert_eq!(Spread::of(&[3.0, 1.0]), Spread { median: 2.0, least: 1.0, most: 3.0 });
    }
}
