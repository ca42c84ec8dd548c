//! Two tables, and chance: what must never be seen, and what must stay.

mod leak_tests;
mod survivor_tests;

use proptest::prelude::*;

use super::*;

#[test]
fn every_pattern_is_one() {
    let patterns = [
        &TERMINAL,
        &shapes::MARKS,
        &shapes::PROMISED,
        &shapes::PEM_END,
        &shapes::USER,
        &shapes::SCHEME,
        &shapes::NEAR,
        &shapes::RUN,
        &shapes::NAME_BEFORE,
        &shapes::ID,
        &values::NAMED,
        &values::FLAG,
        &values::TUPLE,
        &values::PAIR,
        &values::OPEN,
        &values::NEXT,
        &values::SCHEME,
        &view::LEAD,
        &view::TRAIL,
        &view::BREAK,
        &view::ESCAPE,
        &view::OWN,
    ];
    for pattern in patterns.into_iter().chain(&shapes::SHAPES) {
        assert!(pattern.regex().is_some(), "{pattern:?}");
    }
}

#[test]
fn names_that_promise_a_secret_are_known_however_they_are_spelt() {
    for name in [
        "aws_secret_access_key",
        "AWS_SESSION_TOKEN",
        "clientSecret",
        "client-secret",
        "ClientSecret",
        "SecretAccessKey",
        "X-Amz-Security-Token",
        "X-Api-Key",
        "password",
        "db_pwd",
        "PGPASSWORD",
        "passPhrase",
        "pass_phrase",
        "api_token",
        "apikey",
        "API key",
        "private_key",
        "private_key_id",
        "client-key-data",
        "refresh_token",
        "registry_password",
        "kubeconfig_content",
        "external_id",
        "ExternalId",
        "aws_access_key_id",
        "AccessKeyId",
        "atlas_private_key",
        "certificate_content",
        "github_app_key_content",
        "credentials_content",
        "clouds_yaml_content",
        "Authorization",
        "sig",
        "X-Amz-Signature",
        "storage_account_key",
        "connectionString",
        "example.com/token",
    ] {
        assert!(names::promises(name), "{name}");
    }
    for name in [
        "key",
        "public_key",
        "secretName",
        "secret_arn",
        "token_uri",
        "password_last_used",
        "passwordPolicy",
        "http_tokens",
        "MinimumPasswordLength",
        "token_type",
        "client_id",
        "tenant_id",
        "fingerprint",
        "access_key_1_active",
        "author",
        "monkey",
        "compass",
        "secretsmanager",
        "key_file",
        "authMethod",
        "rbac.authorization.kubernetes.io/autoupdate",
        "certificate-authority-data",
        "",
        "_",
    ] {
        assert!(!names::promises(name), "{name}");
    }
}

#[test]
fn the_tail_is_one_bounded_line() {
    let tail = tail(&"line\n".repeat(500));
    assert!(tail.len() <= MAX_TAIL + 4 && tail.starts_with('…') && !tail.contains('\n'));
}

#[test]
fn a_log_that_begins_within_a_credential_shows_nothing_of_it() {
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
    let rest = "ClientError: the key was refused\n".repeat(70);
    for head in [
        // Within a word, within a line of a key, before a key's last line and its end.
        "wJalrXUtn rest of the line\n".to_owned(),
        format!(
            "{}\n{line}\nq8w==\n-----END PRIVATE KEY-----\n",
            &line[40..]
        ),
        format!("{}\n{line}\n{line}\nq8wXyZ12==\n", &line[50..]),
        "9aB3xK7mQ2pL5\"}\n".to_owned(),
    ] {
        let text = format!("{head}{rest}");
        assert!(text.len() > KEPT_BYTES - 8);
        // Long enough, and as short as can be shown whole.
        let lines = format!("{head}{}", "short\n".repeat(KEPT_LINES));
        for text in [text, lines] {
            let clean = redact(&text);
            let shown = tail(&text);
            for secret in [
                "wJalrXUtn",
                &line[40..52],
                &line[50..],
                "q8wXyZ12",
                "9aB3xK7mQ2",
            ] {
                assert!(!shown.contains(secret), "{secret} in {shown}");
            }
            assert!(!clean.contains(line) && !clean.contains("q8w=="), "{clean}");
        }
    }
    // A short one begins where it began.
    assert_eq!(tail("botocore said no"), "botocore said no");
}

/// The first look may only pass over what the second does not see either.
#[test]
fn what_is_hidden_is_seen_at_first_look() {
    for (text, _) in leak_tests::KNOWN {
        assert!(may_hold(text) || text.contains('\u{200b}'), "{text}");
    }
}

#[test]
fn what_is_masked_is_masked_once_and_the_same_each_time() {
    let text = "client_secret=abc8Q~defghijklmnopqrstuvwxyz0123456, tenant_id=11111111-2222-3333-4444-555555555555";
    let once = redact(text);
    assert_eq!(
        once,
        "client_secret=[redacted], tenant_id=11111111-2222-3333-4444-555555555555"
    );
    assert_eq!(redact(&once), once);
    assert_eq!(masked("nothing to hide", "[masked]"), None);
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        proptest::sample::select(
            &[
                "password",
                "token",
                "secret_key",
                "=",
                ": ",
                "\"",
                "'",
                "\n",
                "\\n",
                "\\",
                "%2",
                "%41",
                "\\u0041",
                "://",
                "@",
                " │\n│ ",
                "\u{1b}[3",
                "-----BEGIN X-----",
                "-----END",
                "(",
                "<",
                ">",
                "AKIAIOSFODNN7EXAMPLE",
                "Bearer ",
                "é",
                "的",
                "2026-11-26 18:00:00,123 [File: a.py:1]",
                "name: ",
                "value: ",
                "[redacted]",
                "--",
                "ERROR",
                " ",
                "{",
                "}",
                ",",
                "|",
            ][..]
        )
        .prop_map(str::to_owned),
        "\\PC{0,12}",
        "[A-Za-z0-9+/]{0,50}",
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text in pieces()) {
        let _ = redact(&text);
        prop_assert!(tail(&text).len() <= MAX_TAIL + '…'.len_utf8());
        let _ = may_hold(&text);
    }
}
