//! Takes what looks like a credential out of text that a scanner wrote, before people see it.

use std::sync::LazyLock;

use regex::Regex;

/// Longest tail shown, in bytes.
pub const MAX_TAIL: usize = 600;

/// Shapes of credentials, most particular first.
static SHAPES: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        // PEM blocks, also cut off at the end.
        r"(?s)-----BEGIN [A-Z ]*-----.*?(-----END [A-Z ]*-----|\z)",
        // Access key ids of AWS; the secret that follows has no shape of its own but its name.
        r"\b(AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{12,}\b",
        // Tokens with a prefix: GitHub, Slack, Google, Vercel, GitLab.
        r"\b(gh[pousr]_|github_pat_|xox[abprs]-|ya29\.|AIza|glpat-)[A-Za-z0-9_.-]{8,}",
        // JSON Web Tokens.
        r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{4,}(\.[A-Za-z0-9_-]*)?",
        // Passwords in URLs.
        r"://[^/\s:@]+:[^/\s@]+@",
        // name=value, name: value, "name": "value" for names that promise a secret.
        r#"(?i)["']?[a-z0-9_.-]*(secret|passw(or)?d|token|api[_-]?key|private[_-]?key|access[_-]?key|credential|authorization|pass[_-]?phrase)[a-z0-9_.-]*["']?\s*[=:]\s*("[^"]*"|'[^']*'|(bearer\s+|basic\s+)?[^\s,;}]+)"#,
        // Long runs that no sentence has: hexadecimal, base64.
        r"\b[0-9a-fA-F]{32,}\b",
        r"[A-Za-z0-9+/_-]{40,}={0,2}",
    ]
    .iter()
    // The shapes are constants; a test compiles each.
    .filter_map(|shape| Regex::new(shape).ok())
    .collect()
});

/// The text without credentials: each becomes `[redacted]`.
pub fn redact(text: &str) -> String {
    let mut text: String = text
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect();
    for shape in SHAPES.iter() {
        if let std::borrow::Cow::Owned(changed) = shape.replace_all(&text, "[redacted]") {
            text = changed;
        }
    }
    text
}

/// The end of a log as one line for a status: redacted first, cut after, so that no half of a
/// credential is left at the edge.
pub fn tail(text: &str) -> String {
    let clean = redact(text);
    let line = clean
        .split('\n')
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect::<Vec<_>>()
        .join(" | ");
    if line.len() <= MAX_TAIL {
        return line;
    }
    let mut start = line.len() - MAX_TAIL;
    while !line.is_char_boundary(start) {
        start += 1;
    }
    format!("…{}", &line[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_compiles() {
        assert_eq!(SHAPES.len(), 8);
    }

    #[test]
    fn credentials_do_not_survive() {
        for (text, secret) in [
            ("key AKIAIOSFODNN7EXAMPLE is bad", "AKIAIOSFODNN7EXAMPLE"),
            (
                "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG",
                "wJalrXUtnFEMI",
            ),
            (r#"{"client_secret": "a b c"}"#, "a b c"),
            ("Authorization: Bearer abc.def", "abc.def"),
            ("https://user:hunter2@host/x", "hunter2"),
            ("-----BEGIN PRIVATE KEY-----\nMIIE\nvQIB", "MIIE"),
            ("ghp_0123456789abcdef", "0123456789abcdef"),
            ("token eyJhbGciOi.eyJzdWIiOi.c2ln", "eyJzdWIiOi"),
            ("d41d8cd98f00b204e9800998ecf8427e0", "d41d8cd98f00"),
        ] {
            assert!(!redact(text).contains(secret), "{text} → {}", redact(text));
        }
    }

    #[test]
    fn sentences_survive() {
        let text = "CRITICAL: The security token included in the request is invalid. Account 123456789012, region us-east-1";
        assert_eq!(redact(text), text);
    }

    #[test]
    fn the_tail_is_one_bounded_line() {
        let tail = tail(&"line\n".repeat(500));
        assert!(tail.len() <= MAX_TAIL + 4 && tail.starts_with('…') && !tail.contains('\n'));
    }
}
