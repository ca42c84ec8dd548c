//! A text as it may have been before something wrapped, prefixed or encoded it, each byte with its
//! place in the text as it is: what is found in a view is hidden there.

use std::ops::Range;

use super::pattern::Pattern;
use super::words::is_ordinary;

/// A text made of another one.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) text: String,
    /// From where to where each byte stands in the original.
    places: Vec<(usize, usize)>,
    /// Where lines were joined.
    joins: Vec<usize>,
}

/// What stands before what a line says: what a table or a traceback draws, and what loggers put
/// there, of Python, of Prowler, of the kubelet.
pub(super) static LEAD: Pattern = Pattern::new(
    r"(?x)^ (?: [\s│┃╎|>]+
      | \d{4}-\d\d-\d\d[T\ ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?
      | \[\d\d[:/]\d\d[:/]\d\d[^\]\n]*\]
      | (?:stdout|stderr)\ [FP]\s
      | \[(?:File|Module|[Ll]ine|[a-z_.]+):[^\]\n]*\]
      | \[?(?:TRACE|DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)\]?(?:\s*[:\-|]|\s|$)
    )+",
);

/// What follows it: white space, what a table draws, the place that some loggers put to the right,
/// a mark that the line goes on.
pub(super) static TRAIL: Pattern = Pattern::new(r"(?:\s{2,}[\w./]+\.py:\d+)?[\s│┃╎|]*\\?\s*$");

/// Ends of lines, also as programs quote them.
pub(super) static BREAK: Pattern = Pattern::new(r"\n|\\r\\n|\\n");

/// What stands for another character, in addresses and in quoted text.
pub(super) static ESCAPE: Pattern =
    Pattern::new(r#"%[2-7][0-9A-Fa-f]|\\+["'/]|\\+u00[2-7][0-9A-Fa-f]"#);

/// A name with its value, or the beginning of a list.
pub(super) static OWN: Pattern =
    Pattern::new(r#"^["']?[A-Za-z_][\w.-]*["']?(?:[:=]["']?[\w/$.{\[<-]|:$)"#);

impl View {
    /// The text as it is.
    pub(super) fn plain(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            places: (0..text.len()).map(|at| (at, at + 1)).collect(),
            joins: Vec::new(),
        }
    }

    /// All lines as one, without what stands before and after what they say; none of a single one.
    pub(super) fn unfolded(text: &str) -> Option<Self> {
        let mut view = Self {
            text: String::with_capacity(text.len()),
            places: Vec::with_capacity(text.len()),
            joins: Vec::new(),
        };
        let mut start = 0;
        let ends = BREAK.all(text).map(|found| (found.start, found.end));
        for (end, next) in ends.chain([(text.len(), text.len())]) {
            let line = &text[start..end];
            let lead = LEAD.find(line).map_or(0, |found| found.end);
            let trail = TRAIL
                .find(&line[lead..])
                .map_or(line.len(), |found| lead + found.start);
            view.join(&line[lead..trail], start + lead);
            start = next;
        }
        (!view.joins.is_empty()).then_some(view)
    }

    fn join(&mut self, mut line: &str, mut place: usize) {
        if line.is_empty() {
            return;
        }
        if !self.text.is_empty() {
            // Python's way to wrap a text: 'one'
            //                              'other'
            for quote in ['"', '\''] {
                if line.len() > 1 && line.starts_with(quote) && self.text.ends_with(quote) {
                    self.text.pop();
                    self.places.pop();
                    line = &line[1..];
                    place += 1;
                    break;
                }
            }
            self.joins.push(self.text.len());
        }
        self.text.push_str(line);
        self.places
            .extend((place..place + line.len()).map(|at| (at, at + 1)));
    }

    /// The same without escapes; none where there are none.
    pub(super) fn decoded(&self) -> Option<Self> {
        let mut view = Self {
            text: String::with_capacity(self.text.len()),
            places: Vec::with_capacity(self.places.len()),
            joins: Vec::new(),
        };
        let mut at = 0;
        for found in ESCAPE.all(&self.text) {
            view.copy(self, at, found.start);
            let escape = &self.text[found.clone()];
            let digits = escape.get(escape.len() - 2..).unwrap_or_default();
            let meant = match u8::from_str_radix(digits, 16) {
                Ok(byte) if escape.len() > 2 => char::from(byte),
                _ => escape.chars().next_back().unwrap_or(' '),
            };
            view.text.push(meant);
            view.places
                .push((self.places[found.start].0, self.places[found.end - 1].1));
            at = found.end;
        }
        if at == 0 {
            return None;
        }
        view.copy(self, at, self.text.len());
        Some(view)
    }

    fn copy(&mut self, from: &Self, start: usize, end: usize) {
        let moved = self.text.len();
        let joins = from
            .joins
            .iter()
            .filter(|join| (start..end).contains(*join));
        self.joins.extend(joins.map(|join| join - start + moved));
        self.text.push_str(&from.text[start..end]);
        self.places.extend_from_slice(&from.places[start..end]);
    }

    /// Where a part of the view stands in the original. It ends where a line was joined that says
    /// something of its own.
    pub(super) fn original(&self, start: usize, end: usize) -> Range<usize> {
        let first = self.joins.partition_point(|join| *join <= start);
        let mut joined = (first..self.joins.len()).take_while(|at| self.joins[*at] < end);
        let own = joined.find(|at| self.begins_anew(*at));
        let end = own.map_or(end, |at| self.joins[at]);
        self.places[start].0..self.places[end - 1].1
    }

    /// Whether the line that was joined there is no part of what came before: a sentence, or a name with
    /// its value.
    fn begins_anew(&self, at: usize) -> bool {
        let next = self.joins.get(at + 1).copied();
        let line = &self.text[self.joins[at]..next.unwrap_or(self.text.len())];
        let (word, more) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        OWN.is_in(word) || is_ordinary(word) && !more.trim().is_empty()
    }
}
