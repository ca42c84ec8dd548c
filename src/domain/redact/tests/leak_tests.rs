//! Every secret that a Provider's Secret may hold, in every dress in which a log may show it.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::super::{may_hold, redact, tail};
use crate::domain::clock::{Clock as _, SystemClock};

/// Names under which a secret is told, what it looks like, and whether it is known without a name.
struct Kind {
    names: &'static [&'static str],
    like: &'static str,
    alone: bool,
}

const fn kind(names: &'static [&'static str], like: &'static str) -> Kind {
    Kind {
        names,
        like,
        alone: false,
    }
}

const fn alone(names: &'static [&'static str], like: &'static str) -> Kind {
    Kind {
        names,
        like,
        alone: true,
    }
}

const PASSWORD: &str = "[A-Za-z0-9]{3}[A-Za-z0-9!@#$^*()_+.~-]{6,20}[A-Za-z0-9]{3}";
const PEM: &str = "-----BEGIN (RSA |EC |)PRIVATE KEY-----\n([A-Za-z0-9+/]{64}\n){3}[A-Za-z0-9+/]{22}==\n-----END PRIVATE KEY-----";

/// By the table of the providers' secrets.
const KINDS: &[Kind] = &[
    // AWS
    alone(
        &["aws_access_key_id", "AWS_ACCESS_KEY_ID", "AccessKeyId"],
        "(AKIA|ASIA)[A-Z2-7]{16}",
    ),
    kind(
        &[
            "aws_secret_access_key",
            "AWS_SECRET_ACCESS_KEY",
            "SecretAccessKey",
        ],
        "[A-Za-z0-9/+]{40}",
    ),
    kind(
        &[
            "aws_session_token",
            "AWS_SESSION_TOKEN",
            "X-Amz-Security-Token",
        ],
        "[A-Za-z0-9/+]{180}==",
    ),
    kind(&["external_id", "ExternalId"], "[a-z]{4}-[A-Za-z0-9]{12}"),
    // Azure, Microsoft 365
    alone(
        &["client_secret", "AZURE_CLIENT_SECRET"],
        "[A-Za-z0-9_]{3}[0-9]Q~[A-Za-z0-9_.~-]{33}[a-z]",
    ),
    kind(
        &["certificate_content", "M365_CERTIFICATE_CONTENT"],
        "MII[A-Za-z0-9+/]{300}=",
    ),
    kind(&["password", "M365_PASSWORD"], PASSWORD),
    // Google
    alone(&["client_secret"], "GOCSPX-[A-Za-z0-9_-]{27}[a-z]"),
    alone(&["refresh_token"], "1//0[A-Za-z0-9_-]{60}"),
    alone(&["private_key"], PEM),
    kind(&["private_key_id"], "[0-9a-f]{40}"),
    // Kubernetes
    alone(
        &["token"],
        "eyJ[A-Za-z0-9_-]{40}\\.eyJ[A-Za-z0-9_-]{80}\\.[A-Za-z0-9_-]{86}",
    ),
    kind(&["client-key-data"], "LS0tLS1[A-Za-z0-9+/]{200}=="),
    kind(&["password"], PASSWORD),
    kind(&["token"], "[a-z0-9]{6}\\.[a-z0-9]{16}"),
    // GitHub, and addresses of repositories
    alone(
        &["personal_access_token", "GITHUB_PERSONAL_ACCESS_TOKEN"],
        "ghp_[A-Za-z0-9]{36}",
    ),
    alone(
        &["personal_access_token"],
        "github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
    ),
    alone(
        &["oauth_app_token", "GITHUB_OAUTH_APP_TOKEN", "access_token"],
        "gh[osu]_[A-Za-z0-9]{36}",
    ),
    alone(&["github_app_key_content", "GITHUB_APP_KEY"], PEM),
    // Oracle
    alone(&["key_content"], PEM),
    kind(&["pass_phrase"], PASSWORD),
    // MongoDB Atlas
    kind(
        &["atlas_private_key", "ATLAS_PRIVATE_KEY"],
        "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    ),
    // Alibaba Cloud
    alone(&["access_key_id"], "LTAI5t[A-Za-z0-9]{18}"),
    kind(
        &["access_key_secret", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"],
        "[A-Za-z0-9]{30}",
    ),
    kind(
        &["security_token", "ALIBABA_CLOUD_SECURITY_TOKEN"],
        "CAIS[A-Za-z0-9+/]{200}=",
    ),
    // Cloudflare
    kind(
        &["api_token", "CLOUDFLARE_API_TOKEN"],
        "[A-Za-z0-9_-]{39}[a-z]",
    ),
    kind(
        &["api_key", "CLOUDFLARE_API_KEY", "X-Auth-Key"],
        "[0-9a-f]{37}",
    ),
    // OpenStack, Vercel, registries, Okta
    kind(&["password", "OS_PASSWORD"], PASSWORD),
    kind(&["api_token", "VERCEL_TOKEN"], "[A-Za-z0-9]{24}"),
    alone(
        &["registry_token", "REGISTRY_TOKEN"],
        "dckr_pat_[A-Za-z0-9_-]{26}[a-z]",
    ),
    kind(&["registry_password", "REGISTRY_PASSWORD"], PASSWORD),
    alone(&["okta_private_key", "OKTA_PRIVATE_KEY"], PEM),
    kind(&["okta_private_key"], "[A-Za-z0-9_-]{342}"),
];

/// Sentences with a name and its value.
const NAMED: &[&str] = &[
    "{name}={value}",
    "{name} = {value}",
    "{name}: {value}",
    "ClientError[1931]: {name}={value} was refused",
    "2026-11-26 18:00:00,123 [File: a.py:1] \t[Module: a]\t CRITICAL: {name}: {value}",
    "{\"region\": \"eu-west-1\", \"{name}\": \"{value}\", \"client_id\": \"11111111-2222-3333-4444-555555555555\"}",
    "ValueError({'{name}': '{value}', 'x': 1})",
    "validation failed [type=missing, input_value={'{name}': '{value}'}]",
    "('{name}', '{value}')",
    "{name}=SecretStr('{value}')",
    "{name}: b'{value}'",
    "<{name}>{value}</{name}>",
    "{'name': '{name}', 'value': '{value}'}",
    "https://example.com/login?{name}={value}&region=eu-west-1",
    "export {name}=\"{value}\"",
    "users:\n- name: admin\n  user:\n    {name}: {value}\ncontexts: []",
];

/// The same of arguments.
const FLAGS: &[&str] = &[
    "--{name} {value} --region eu-west-1",
    "prowler aws --{name} {value}",
    "prowler aws --{name}={value} -f eu-west-1",
];

/// Sentences without.
const ALONE: &[&str] = &[
    "{value}",
    "the value {value} was refused by the server",
    "ValueError('{value}')",
    "https://user:{value}@github.com/acme/infrastructure.git",
    "[{value}, 5]",
];

/// What may stand where a line is broken.
const BREAKS: &[&str] = &[
    "\n",
    "\r\n",
    "\n        ",
    "\\n",
    " │\n│ ",
    "        aws_provider.py:1121\n                    ",
    "\n2026-11-26 18:00:00,124 [File: a.py:1] \t[Module: a]\t CRITICAL: ",
    "\n2026-11-26T18:00:00.123456789Z stderr F ",
    "\u{1b}[0m\n\u{1b}[31m",
];

/// So many characters of a secret are a part of it.
const TOLD: usize = 7;

/// The first part of a secret that a text shows.
fn told(text: &str, secret: &str) -> Option<String> {
    let secret: Vec<char> = secret.chars().collect();
    let parts = secret.windows(TOLD);
    let mut parts = parts.map(|part| part.iter().collect::<String>());
    // The words around a key are no secret.
    parts.find(|part| {
        text.contains(part.as_str())
            && !"BEGIN RSA PRIVATE KEY".contains(part)
            && !part.contains("--")
    })
}

fn percent(value: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    value.bytes().map(byte).collect()
}

/// `REDACT_SEED` takes what failed again.
static SEED: LazyLock<u64> = LazyLock::new(|| {
    let given = std::env::var("REDACT_SEED").ok();
    given.map_or_else(
        || SystemClock.uuid7().as_u64_pair().1,
        |seed| seed.parse().unwrap(),
    )
});

fn runner(cases: u32) -> TestRunner {
    let soak = if std::env::var_os("SOAK").is_some() {
        40
    } else {
        1
    };
    let config = Config {
        cases: cases * soak,
        failure_persistence: None,
        ..Config::default()
    };
    let seed = [SEED.to_le_bytes(); 4].concat();
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

fn fill(sentence: &str, name: &str, value: &str) -> String {
    sentence.replace("{name}", name).replace("{value}", value)
}

/// Chance, to choose by.
struct Dice(u64);

impl Dice {
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most
    }
}

/// Runs `look` over random secrets of all kinds.
fn each(cases: u32, look: impl Fn(&Kind, &str, &mut Dice) -> Result<(), String>) {
    for kind in KINDS {
        let like = proptest::string::string_regex(kind.like).unwrap();
        let tried = runner(cases).run(&(like, any::<u64>()), |(secret, seed)| {
            look(kind, &secret, &mut Dice(seed)).map_err(TestCaseError::fail)
        });
        if let Err(error) = tried {
            panic!("REDACT_SEED={} {:?}: {error}", *SEED, kind.names);
        }
    }
}

fn hidden(shown: &str, text: &str, secrets: &[&str]) -> Result<(), String> {
    match secrets.iter().find_map(|secret| told(shown, secret)) {
        Some(part) => Err(format!("{part:?} of\n{text}\nis in\n{shown}")),
        None => Ok(()),
    }
}

fn one_line(secret: &str) -> bool {
    !secret.contains('\n')
}

#[test]
fn a_secret_beside_its_name_is_hidden_plain_or_encoded() {
    each(48, |kind, secret, dice| {
        let name = dice.one(kind.names);
        let flag = name.to_lowercase().replace('_', "-");
        let dresses = [
            secret.replace('\n', "\\n"),
            STANDARD.encode(secret),
            percent(secret),
        ];
        let value = &dresses[dice.below(dresses.len())];
        let text = match dice.below(NAMED.len() + FLAGS.len()) {
            at if at < NAMED.len() => fill(NAMED[at], name, value),
            at => fill(FLAGS[at - NAMED.len()], &flag, value),
        };
        hidden(&redact(&text), &text, &[value, secret])?;
        hidden(&tail(&text), &text, &[value, secret])?;
        may_hold(&text)
            .then_some(())
            .ok_or_else(|| format!("passed over: {text}"))
    });
}

#[test]
fn a_secret_of_its_own_shape_is_hidden_without_its_name() {
    each(24, |kind, secret, dice| {
        if !kind.alone {
            return Ok(());
        }
        let packed = STANDARD.encode(secret);
        let mut dresses = vec![secret.replace('\n', "\\n"), percent(secret)];
        // The shape is gone then; the length is not.
        if packed.len() >= 60 {
            dresses.push(packed);
        }
        let value = &dresses[dice.below(dresses.len())];
        let text = fill(dice.one(ALONE), "", value);
        hidden(&redact(&text), &text, &[value, secret])
    });
}

#[test]
fn a_secret_is_hidden_though_a_line_ends_within_it() {
    each(48, |kind, secret, dice| {
        let letters: Vec<char> = secret.chars().collect();
        let at = 1 + dice.below(letters.len() - 1);
        let (one, other) = letters.split_at(at);
        let (one, other): (String, String) = (one.iter().collect(), other.iter().collect());
        // A half that has no digit may be a word of the next sentence.
        if !one_line(secret) || !other.chars().take(12).any(|c| c.is_ascii_digit()) {
            return Ok(());
        }
        let value = format!("{one}{}{other}", dice.one(BREAKS));
        let sentences = if kind.alone {
            [NAMED, ALONE]
        } else {
            [NAMED, NAMED]
        };
        let among = dice.one(&sentences);
        let text = fill(dice.one(among), dice.one(kind.names), &value);
        hidden(&redact(&text), &text, &[&one, &other])
    });
}

#[test]
fn a_key_in_lines_is_hidden_whatever_stands_between_them() {
    each(24, |kind, secret, dice| {
        if one_line(secret) {
            return Ok(());
        }
        let value = secret.replace('\n', dice.one(BREAKS));
        let among = dice.one(&[NAMED, ALONE]);
        let text = fill(dice.one(among), dice.one(kind.names), &value);
        let lines: Vec<_> = secret
            .lines()
            .filter(|line| !line.starts_with("--"))
            .collect();
        hidden(&redact(&text), &text, &lines)
    });
}

/// Nothing but its look tells such a run, and looks deceive: one in some ten thousand has syllables.
#[test]
fn long_random_runs_are_hidden_without_a_name() {
    for like in [
        "[A-Za-z0-9/+]{40}",
        "[A-Za-z0-9_-]{43}",
        "[0-9a-f]{37}",
        "[A-Za-z0-9+/]{64}",
    ] {
        let runs = proptest::string::string_regex(like).unwrap();
        let (tried, missed) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        runner(200)
            .run(&runs, |run| {
                tried.set(tried.get() + 1);
                let shown = redact(&format!("the server said {run} and went away"));
                missed.set(missed.get() + i32::from(told(&shown, &run).is_some()));
                Ok(())
            })
            .unwrap();
        assert!(
            missed.get() * 100 <= tried.get(),
            "REDACT_SEED={} {like}: {missed:?} of {tried:?}",
            *SEED
        );
    }
}

/// Leaks of their own kind.
pub(super) const KNOWN: &[(&str, &str)] = &[
    ("key AKIAIOSFODNN7EXAMPLE is bad", "AKIAIOSFODNN7EXAMPLE"),
    (
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG",
        "wJalrXUtnFEMI",
    ),
    (r#"{"client_secret": "a b c"}"#, "a b c"),
    ("Authorization: Bearer abc.def", "abc.def"),
    ("authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    (
        "curl -H 'Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/x, Signature=fe5f80'",
        "fe5f80",
    ),
    ("https://user:hunter2@host/x", "hunter2"),
    ("https://ghp_abcdefghijklmnop@github.com/a/b", "ghp_"),
    ("https://oauth2:p@ss@gitlab.example.com/a", "p@ss"),
    ("postgres://prowler:s3cret@db:5432/prowler", "s3cret"),
    ("-----BEGIN PRIVATE KEY-----\nMIIE\nvQIB", "MIIE"),
    ("-----BEGIN+RSA+PRIVATE+KEY-----%0AMIIE", "MIIE"),
    ("ghp_0123456789abcdef", "0123456789abcdef"),
    ("token eyJhbGciOi.eyJzdWIiOi.c2ln", "eyJzdWIiOi"),
    ("d41d8cd98f00b204e9800998ecf8427e0", "d41d8cd98f00"),
    ("client_secret%3DhunterTwo%26x%3D1", "hunterTwo"),
    (r#"{\"client_secret\": \"hunterTwo\"}"#, "hunterTwo"),
    ("pass_phrase: correct horse battery staple", "horse"),
    ("passphrase = correct horse battery staple", "battery"),
    ("password:\n  hunterTwo\n", "hunterTwo"),
    (
        "the Atlas private key 2f1a4c5d-6e7f-4a8b-9c0d-1e2f3a4b5c6d is unknown",
        "2f1a4c5d",
    ),
    ("invalid API key '0f1e2d3c4b5a69788796'", "0f1e2d3c4b5a"),
    ("Secret Access Key: hunterTwo", "hunterTwo"),
    (
        "auths: {\"registry.example.com\": {\"auth\": \"dXNlcjpwYXNz\"}}",
        "dXNlcjpwYXNz",
    ),
    (
        "https://acct.blob.core.windows.net/c?sv=2024&sig=abc%2Fdef%3D",
        "abc%2Fdef",
    ),
    (
        "AccountKey=Zm9vYmFyYmF6Zm9v==;EndpointSuffix=core.windows.net",
        "Zm9vYmFy",
    ),
    ("pw\u{200b}d=hunterTwo", "hunterTwo"),
];

#[test]
fn known_leaks_are_hidden() {
    for (text, secret) in KNOWN {
        let shown = redact(text);
        assert!(!shown.contains(secret), "{text} → {shown}");
        assert!(shown.contains("[redacted]"), "{text} → {shown}");
    }
}
