//! Where a JSON value ends, told without understanding it.

/// Levels beyond which a value is no finding of any scanner, and no part of one.
pub(super) const NESTING_MAX: u32 = 32 * 1024;

/// Finds the end of a JSON value by strings and brackets alone.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Extent {
    depth: u32,
    deepest: u32,
    in_string: bool,
    escaped: bool,
    begun: bool,
}

impl Extent {
    /// Whether it is nested beyond all measure, as far as it was read.
    pub(super) fn is_too_deep(&self) -> bool {
        self.deepest > NESTING_MAX
    }

    /// One past the value's last byte within these bytes, which follow those given before.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, &byte) in bytes.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_string = false;
                        if self.depth == 0 {
                            return Some(at + 1);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match byte {
                // A scalar ends before what separates it.
                b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t'
                    if self.depth == 0 && self.begun =>
                {
                    return Some(at);
                }
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.depth = self.depth.saturating_add(1);
                    self.deepest = self.deepest.max(self.depth);
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
            self.begun = true;
        }
        None
    }
}
