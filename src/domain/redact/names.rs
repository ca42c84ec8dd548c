//! Names that promise a secret: of variables, fields, flags and headers, however they are spelt.

use super::screen::may_promise;

/// What such a name has in it, letters and digits alone.
const STEMS: [&str; 24] = [
    "secret",
    "passw",
    "passphrase",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "credential",
    "authorization",
    "connectionstring",
    "databaseurl",
    "externalid",
    "keycontent",
    "keydata",
    "keymaterial",
    "kubeconfig",
    "cloudsyaml",
    "certificatecontent",
    "serviceaccountkey",
    "dockerconfigjson",
    "dbpass",
    "userpass",
    "adminpass",
    "rootpass",
];

/// What such a name is a word of.
const WORDS: [&str; 10] = [
    "pwd",
    "auth",
    "cookie",
    "sig",
    "signature",
    "jwt",
    "jwk",
    "dsn",
    "pfx",
    "otp",
];

/// What a key opens, by the word before it; a key of a map opens nothing.
const KEYS: [&str; 14] = [
    "account",
    "app",
    "auth",
    "client",
    "encryption",
    "host",
    "master",
    "session",
    "shared",
    "signing",
    "ssh",
    "storage",
    "subscription",
    "webhook",
];

/// The last words of names that speak of a secret without holding it.
const ABOUT: &str = " active after age allowed arn arns at authentication changed check \
    combination count created date days deleted description disabled enabled encryption endpoint \
    error exception expected expiration expires expiry file files group history host hours \
    invalid kind kms last length lifetime limit list location manager method minutes missing mode \
    name names needed next number optional path period policies policy prefix prevention \
    protection provider region required requirements reuse rotated rotation scanning seconds \
    service size sources status strength support supported type types uri url urls used user \
    username validity version warning ";

/// Names that sound like it and are not.
const HARMLESS: [&str; 4] = ["httptokens", "secretsmanager", "passwordless", "maxtokens"];

/// Whether what stands under this name is to be taken for a secret.
pub fn promises(name: &str) -> bool {
    if !may_promise(name) {
        return false;
    }
    // Of a key like `example.com/token` the last part counts.
    let name = name.rsplit('/').next().unwrap_or(name);
    let words = words(name);
    let Some(last) = words.last() else {
        return false;
    };
    let joined = words.concat();
    if HARMLESS.iter().any(|harmless| joined.contains(harmless)) {
        return false;
    }
    if last == "id" {
        // A key's id is half of it; other ids help to find things.
        return ["keyid", "externalid", "secretid"]
            .iter()
            .any(|end| joined.ends_with(end));
    }
    if words.len() > 1 && ABOUT.contains(&format!(" {last} ")) {
        return false;
    }
    // `PASS` is a verdict.
    name == "pass"
        || STEMS.iter().any(|stem| joined.contains(stem))
        || words.iter().any(|word| WORDS.contains(&word.as_str()))
        || words.windows(2).any(|pair| {
            matches!(pair[1].as_str(), "key" | "keys") && KEYS.contains(&pair[0].as_str())
        })
}

/// The words of a name, in lower case: parted by what is no letter or digit, and where a capital
/// follows a small letter or begins a word after capitals.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    let mut before = ' ';
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        if c.is_ascii_alphanumeric() {
            let turns = c.is_ascii_uppercase()
                && (before.is_ascii_lowercase()
                    || before.is_ascii_uppercase()
                        && rest.peek().is_some_and(char::is_ascii_lowercase));
            if !open || turns {
                words.push(String::new());
            }
            if let Some(word) = words.last_mut() {
                word.push(c.to_ascii_lowercase());
            }
        }
        open = c.is_ascii_alphanumeric();
        before = c;
    }
    words
}

/// Values that say that there is nothing to hide, whatever the name.
pub fn is_nothing(value: &str) -> bool {
    const NOTHING: [&str; 20] = [
        "",
        "true",
        "false",
        "null",
        "none",
        "nil",
        "undefined",
        "yes",
        "no",
        "on",
        "off",
        "enabled",
        "disabled",
        "required",
        "optional",
        "not_supported",
        "no_information",
        "n/a",
        "unknown",
        "default",
    ];
    let value = value.trim();
    if value.starts_with("[redacted") || value.starts_with("[masked") {
        return true;
    }
    NOTHING
        .iter()
        .any(|nothing| nothing.eq_ignore_ascii_case(value))
        || value
            .bytes()
            .all(|byte| matches!(byte, b'*' | b'.' | b'x' | b'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_passed_over() {
        for part in STEMS.iter().chain(&WORDS) {
            assert!(promises(part), "{part}");
        }
        for key in KEYS {
            assert!(promises(&format!("{key}_key")), "{key}");
        }
    }
}
