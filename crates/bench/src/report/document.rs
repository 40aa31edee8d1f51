//! The figures that `docs/benchmarks.md` quotes.

use std::path::Path;

use crate::Outcome;

const BEGIN: &str = "<!-- figures -->";
const END: &str = "<!-- /figures -->";

/// Puts the figures between their markers.
pub(super) fn write(file: &Path, figures: &str) -> Outcome<()> {
    let text = std::fs::read_to_string(file)?;
    let text = replace(&text, figures).ok_or_else(|| format!("{} has no {BEGIN} … {END}", file.display()))?;
    Ok(std::fs::write(file, text)?)
}

fn replace(text: &str, figures: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", figures.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = "a\n<!-- figures -->\n\nold\n\n<!-- /figures -->\nb\n";
        let new = "a\n<!-- figures -->\n\nnew\n\n<!-- /figures -->\nb\n";
        assert_eq!(replace(text, "new\n").as_deref(), Some(new));
        assert_eq!(replace("no markers", "new"), None);
    }
}
