//! Where the time of a publication goes.

use std::time::{Duration, Instant};

/// A part of a publication, in the order in which they first come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Part {
    /// Whether the attempt may publish, and tables for rows on their way.
    Begin,
    /// What is known of the account is read.
    Past,
    /// The database waits for the file to be read.
    Reading,
    /// Rows on their way into the database.
    Copy,
    /// Findings are inserted.
    Findings,
    /// Links from findings to their resources are inserted.
    Mappings,
    /// Checks, resources and their tags are written.
    Resources,
    /// What the next scan is compared with is written.
    History,
    /// The scan is completed, and all of it is made to last.
    Commit,
}

impl Part {
    /// All of them, in their order.
    pub const ALL: [Self; 9] = [
        Self::Begin,
        Self::Past,
        Self::Reading,
        Self::Copy,
        Self::Findings,
        Self::Mappings,
        Self::Resources,
        Self::History,
        Self::Commit,
    ];

    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Past => "past",
            Self::Reading => "reading",
            Self::Copy => "copy",
            Self::Findings => "findings",
            Self::Mappings => "mappings",
            Self::Resources => "resources",
            Self::History => "history",
            Self::Commit => "commit",
        }
    }
}

/// How long each part of a publication has taken so far; together all of its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    since: Instant,
    parts: [Duration; Part::ALL.len()],
}

impl Spent {
    pub(super) fn begin() -> Self {
        Self {
            since: Instant::now(),
            parts: [Duration::ZERO; Part::ALL.len()],
        }
    }

    /// What has passed since the last part ended was this one.
    pub(super) fn end(&mut self, part: Part) {
        let now = Instant::now();
        self.parts[part as usize] += now - self.since;
        self.since = now;
    }

    /// The time of a part.
    pub fn on(&self, part: Part) -> Duration {
        self.parts[part as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_belongs_to_the_part_that_ends_next() {
        let begun = Instant::now();
        let mut spent = Spent::begin();
        std::thread::sleep(Duration::from_millis(5));
        spent.end(Part::Copy);
        spent.end(Part::Commit);
        std::thread::sleep(Duration::from_millis(5));
        spent.end(Part::Copy);
        assert!(spent.on(Part::Copy) >= Duration::from_millis(10));
        let all: Duration = Part::ALL.into_iter().map(|part| spent.on(part)).sum();
        assert!(all <= begun.elapsed());
        assert_eq!(spent.on(Part::Past), Duration::ZERO);
    }
}
