//! What credentials look like, and where secrets stand.

use std::ops::Range;

use super::pattern::Pattern;
use super::values;
use super::words::{is_odd, is_random};

/// Shapes that say by themselves what they are.
pub(super) static SHAPES: [Pattern; 5] = [
    // Blocks of PEM, also without their end.
    Pattern::new(r"(?s)-----\s?BEGIN[A-Z0-9 +]*-----.*?(?:-----\s?END[A-Z0-9 +]*-----|\z)"),
    // Ids of access keys of AWS and Alibaba Cloud.
    Pattern::new(
        r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}|\bLTAI[A-Za-z0-9]{12,}|\bSTS\.[A-Za-z0-9]{16,}",
    ),
    // Tokens with a prefix: GitHub, GitLab, Slack, Google, Docker, npm, PyPI, Vault, Cloudflare, Vercel,
    // Stripe.
    Pattern::new(
        r"(?x)\b(?: gh[pousr]_ | github_pat_ | gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent)- | xox[a-z]- | xapp-
          | ya29\. | 1//0 | AIza | GOCSPX- | dckr_[op]at_ | npm_ | pypi- | hv[sbr]\. | cf[a-z]{1,2}t_
          | vc[a-z]_ | [sr]k_(?:live|test)_ )[A-Za-z0-9_.~/+-]{8,}",
    ),
    // Client secrets of Azure.
    Pattern::new(r"[A-Za-z0-9_.~-]{3}[0-9]Q~[A-Za-z0-9_.~-]{20,}"),
    // JSON Web Tokens.
    Pattern::new(r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)*"),
];

/// What these, and users in addresses, are seen by, before anybody looks closer.
pub(super) static MARKS: Pattern = Pattern::new(
    r"(?x)-----|AKIA|ASIA|ABIA|ACCA|LTAI|STS\.|gh[pousr]_|github_pat_|gl[a-z]{2,5}-|xox[a-z]-|xapp-|ya29\.|1//0|AIza
      |GOCSPX-|dckr_|npm_|pypi-|hv[sbr]\.|cf[a-z]{1,2}t_|vc[a-z]_|[sr]k_(?:live|test)_|Q~|eyJ|://[^\s/]{1,200}@
      |%[2-7][0-9A-Fa-f]|\\u00[2-7]|(?i:bearer|basic|negotiate)\s",
);

/// A name that promises a secret and the sign that it follows.
pub(super) static PROMISED: Pattern = Pattern::new(
    r#"(?ix)(?:secret|passw|pass|phrase|pwd|token|credential|auth|key|sig|cookie|jw[tk]|dsn|pfx|otp|external|connection
      |database_?url|certificate|kubeconfig|clouds_?yaml|dockerconfig)[\w.$*-]{0,30}(?:\ key|\ id|\ phrase){0,2}
      [\\"'`\])]{0,4}\s*(?:[=:>]|->|,\s*["'])|(?:^|\s)--?[a-z]"#,
);

/// The end of a block of PEM whose beginning was cut off.
pub(super) static PEM_END: Pattern = Pattern::new(r"-----\s?END[A-Z0-9 +]*-----");

/// Who calls, in an address; `git` is nobody.
pub(super) static USER: Pattern =
    Pattern::new(r#"[A-Za-z][A-Za-z0-9+.-]*://(?P<value>[^\s/?\#"'<>@]*(?:@[^\s/?\#"'<>@]*)*)@"#);

/// A scheme of authorization, and what follows it.
pub(super) static SCHEME: Pattern =
    Pattern::new(r"(?i)\b(?:bearer|basic|negotiate)\s+(?P<value>[A-Za-z0-9._~+/=-]{6,})");

/// Words that promise a secret, and what follows them without a sign.
pub(super) static NEAR: Pattern = Pattern::new(
    r#"(?xi)\b(?:secrets?|passwords?|pass\ ?phrase|tokens?|(?:private|access|secret|api)\ key(?:\ id)?
      |credentials?|key\ id)(?:\s+(?:value|is|was|of|with|content|string|given|provided|used))*\s*[:=]?
      [\s"'`(<\[]+(?P<value>[^\s"'`)>\]]+)"#,
);

/// Runs of the letters of Base64, of both kinds, and of hexadecimal digits.
pub(super) static RUN: Pattern = Pattern::new(r"[A-Za-z0-9+/_~-]{20,}={0,2}");

/// What a run is when this stands before it: something's name.
pub(super) static NAME_BEFORE: Pattern = Pattern::new(
    r#"(?xi)(?: \b(?: accounts? | zones? | org(?:anization)?s? | projects? | groups? | teams? | clusters?
        | md5 | sha-?(?:1|224|256|384|512) | digest | fingerprint | checksum | etag | commit | revision | blob | tree
        | (?:request|trace|correlation|client|tenant|subscription|host)[-_\ ]?id ) ["']?[\s:=/@-]{1,3}["']?
      | (?:arn:|ocid1\.)[^\s"',]* | \b(?:mrk|team|prj|dpl|acct|org|proj|user)[-_] )$"#,
);

/// What names a thing within a run: a UUID, an account in an address, a user of AWS, an application of
/// Okta.
pub(super) static ID: Pattern = Pattern::new(
    r"(?x)[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}
      | \b(?:accounts|zones|organizations|projects|groups|commit|blob|tree)/[0-9a-fA-F]{24,64}\b
      | \b(?:AIDA|AROA|AGPA|AIPA|ANPA|ANVA|APKA)[A-Z0-9]{12,}\b
      | \b0oa[A-Za-z0-9]{17}\b",
);

/// All that is to be hidden in a text, in any order.
pub(super) fn found_in(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<_> = SHAPES.iter().flat_map(|shape| shape.all(text)).collect();
    if let Some(end) = PEM_END.find(text)
        && !text[..end.start].contains("-----BEGIN")
    {
        found.push(0..end.end);
    }
    let value = |pattern: &'static Pattern, hides: fn(&str) -> bool| {
        pattern.groups(text).filter_map(move |groups| {
            let value = groups.name("value")?;
            hides(value.as_str()).then(|| value.range())
        })
    };
    found.extend(value(&USER, |user| !matches!(user, "" | "git")));
    found.extend(value(&SCHEME, |value| {
        let value = value.trim_end_matches('.');
        value
            .bytes()
            .any(|byte| !byte.is_ascii_alphabetic() && byte != b'-')
    }));
    found.extend(value(&NEAR, |value| {
        is_odd(value.trim_end_matches(['.', ',', ';', ':']))
    }));
    found.extend(runs(text));
    found.extend(values::found_in(text));
    found
}

/// Runs that chance made.
fn runs(text: &str) -> Vec<Range<usize>> {
    let ids: Vec<_> = ID.all(text).collect();
    RUN.all(text)
        .filter(|run| {
            let parts = without(run, &ids);
            parts.into_iter().any(|part| is_random(&text[part]))
                && !NAME_BEFORE.is_in(before(text, run.start))
        })
        .collect()
}

/// What is left of a run without what names a thing.
fn without(run: &Range<usize>, ids: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = run.start;
    let first = ids.partition_point(|id| id.start < run.start);
    for id in ids[first..].iter().take_while(|id| id.end <= run.end) {
        parts.push(start..id.start.max(start));
        start = id.end;
    }
    parts.push(start..run.end);
    parts
}

/// What stands right before.
pub(super) fn before(text: &str, at: usize) -> &str {
    let mut start = at.saturating_sub(240);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..at]
}

/// The first bytes, so many at most.
pub(super) fn ahead(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
