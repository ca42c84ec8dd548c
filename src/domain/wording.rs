//! Pieces of sentences that several pages of the program say.

use jiff::SignedDuration;
use jiff::fmt::friendly::{Spacing, SpanPrinter};

/// At most `most` of the names, in their order, and how many there are besides.
pub fn some_of(names: &[&str], most: usize) -> String {
    let beyond = names.len().saturating_sub(most);
    let shown = names[..names.len() - beyond].join(", ");
    if beyond == 0 {
        shown
    } else {
        format!("{shown} and {beyond} more")
    }
}

/// Hours, minutes and seconds as [`super::schedule::duration`] reads them.
pub fn span(length: SignedDuration) -> String {
    const PRINTER: SpanPrinter = SpanPrinter::new().spacing(Spacing::None);
    PRINTER.duration_to_string(&length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_names_the_first_are_said_and_the_others_counted() {
        assert_eq!(some_of(&[], 2), "");
        assert_eq!(some_of(&["a", "b"], 2), "a, b");
        assert_eq!(some_of(&["a", "b", "c"], 2), "a, b and 1 more");
    }
}
