//! Placeholder chapter.
