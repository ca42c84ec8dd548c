//! Provider types: their page is made from the tables and the examples, and each type is in every
//! place that one must be in.

use std::fmt::Write as _;
use std::path::PathBuf;

use prowler_operator::api::account::ProviderType;
use prowler_operator::api::all_crds;
use prowler_operator::api::provider::CredentialsType;
use prowler_operator::api::scope::ScopeField;
use prowler_operator::domain::credentials::{self, Delivery, Must};
use regex::{Captures, Regex};

use super::top;

/// Where each provider type must be named, and how: `{type}` is its word, `{Type}` its name in the
/// program. What a `match` over all types enforces is here too, because the page must name it.
const PLACES: &[(&str, &str)] = &[
    ("src/api/account.rs", "        Self::{Type},\n"),
    (
        "src/api/provider.rs",
        "uid_validation(ProviderType::{Type})",
    ),
    ("crds/prowlerproviders.yaml", "- {type}\n"),
    ("migrations/", "'{type}'"),
    ("src/domain/account.rs", "ProviderType::{Type}"),
    (
        "src/domain/credentials/table.rs",
        "(ProviderType::{Type}, Static)",
    ),
    ("src/domain/scanner.rs", "ProviderType::{Type}"),
    ("src/ingest/proof.rs", "ProviderType::{Type}"),
    ("src/dispatch/job/snapshots/", "    - {type}\n"),
    ("examples/providers/", "  provider: {type}\n"),
    ("docs/providers.md", "\n## {type}\n"),
];

/// The text of a file, or of all files of a folder.
fn text(place: &str) -> String {
    let path = top().join(place);
    if path.is_file() {
        return std::fs::read_to_string(path).unwrap();
    }
    let files = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .filter(|file| file.is_file())
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect()
}

#[test]
fn every_provider_type_is_in_every_place_that_the_contributors_page_lists() {
    let page = text("CONTRIBUTING.md");
    let (_, how) = page.split_once("\n### A provider type\n").unwrap();
    let how = how.split("\n## ").next().unwrap();
    for (place, sign) in PLACES {
        assert!(
            how.contains(&format!("`{place}`")),
            "CONTRIBUTING.md does not name {place}"
        );
        let text = text(place);
        for provider in ProviderType::ALL {
            let sign = sign
                .replace("{type}", provider.as_str())
                .replace("{Type}", &format!("{provider:?}"));
            assert!(text.contains(&sign), "{place} lacks {sign:?}");
        }
    }
}

/// A type that is only in the enumeration would be in none of the tests over all types.
#[test]
fn the_list_of_all_provider_types_has_those_of_the_definition() {
    let crd = all_crds()
        .into_iter()
        .find(|crd| crd.spec.names.kind == "Provider")
        .unwrap();
    let crd = serde_json::to_value(crd).unwrap();
    let known = crd
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/provider/enum")
        .unwrap();
    let mut known: Vec<_> = known
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    let mut listed = ProviderType::ALL.map(ProviderType::as_str);
    known.sort_unstable();
    listed.sort_unstable();
    assert_eq!(known, listed);
}

#[test]
fn the_page_of_providers_is_made_from_the_tables_and_the_examples() {
    let file = top().join("docs/providers.md");
    let stored = std::fs::read_to_string(&file).unwrap();
    let wanted = with_fresh_parts(&stored);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &wanted).unwrap();
        return;
    }
    assert!(
        stored == wanted,
        "docs/providers.md is out of date: UPDATE_DOCS=1 cargo test --test architecture"
    );
}

#[test]
fn every_provider_type_has_a_section_with_all_that_its_user_needs() {
    let page = text("docs/providers.md");
    let sections: Vec<_> = page.split("\n## ").skip(1).collect();
    let types: Vec<_> = sections
        .iter()
        .filter_map(|section| ProviderType::from_name(section.lines().next()?))
        .collect();
    assert_eq!(types, ProviderType::ALL);
    for (provider, section) in types.iter().zip(&sections[sections.len() - types.len()..]) {
        for part in [
            format!("<!-- table: {provider} -->\n"),
            format!("<!-- examples: {provider} -->\n"),
            "\n**Least rights.** ".into(),
            "\n**Proof.** ".into(),
            "\n**Good to know.** ".into(),
            "https://docs.prowler.com/".into(),
        ] {
            assert!(section.contains(&part), "{provider} has no {part:?}");
        }
    }
}

/// The page with what stands between its marks made anew.
fn with_fresh_parts(page: &str) -> String {
    let part = Regex::new(r"(?s)<!-- (table|examples): (\w+) -->\n.*?<!-- end -->").unwrap();
    let fresh = |found: &Captures<'_>| {
        let provider = ProviderType::from_name(&found[2]).unwrap();
        let text = match &found[1] {
            "table" => table(provider),
            _ => examples(provider),
        };
        format!("<!-- {}: {provider} -->\n{text}<!-- end -->", &found[1])
    };
    part.replace_all(page, fresh).into_owned()
}

/// The files of examples of this type: the one of its name first.
fn files(provider: ProviderType) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(top().join("examples/providers"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|file| {
            let stem = file.file_stem().unwrap().to_str().unwrap();
            stem.split('-').next() == Some(provider.as_str())
        })
        .collect();
    files.sort_by_key(|file| file.file_stem().map(std::ffi::OsStr::to_owned));
    files
}

fn examples(provider: ProviderType) -> String {
    files(provider).iter().fold(String::new(), |page, file| {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(file).unwrap();
        page + &format!("`examples/providers/{name}`:\n\n```yaml\n{text}```\n\n")
    })
}

fn table(provider: ProviderType) -> String {
    let mut page = String::new();
    let rule = provider.uid_rule();
    let must_be: Vec<_> = rule.must_be.split_whitespace().collect();
    let must_be = must_be.join(" ");
    write!(page, "`uid`: {must_be}. Example: `{}`.", rule.example).unwrap();
    if rule.folded {
        page += " Surrounding blanks and capital letters do not count.";
    }
    page += "\n";
    for kind in [
        CredentialsType::Static,
        CredentialsType::Role,
        CredentialsType::ServiceAccount,
    ] {
        page += &keys(provider, kind);
    }
    if credentials::by_service_account(provider) {
        page += "\n`serviceAccountName` without a Secret: ";
        page += match provider {
            ProviderType::Kubernetes => {
                "scans the cluster the operator runs in, with the rights of that ServiceAccount.\n"
            }
            _ => "[workload identity](#workload-identity).\n",
        };
    }
    if credentials::optional(provider) {
        page += "\nCredentials are optional: what is public can be scanned without.\n";
    }
    let (known, unknown): (Vec<_>, Vec<_>) = ScopeField::ALL
        .into_iter()
        .partition(|field| field.is_known_to(provider));
    let names = |fields: &[ScopeField]| {
        let names: Vec<_> = fields
            .iter()
            .map(|field| format!("`{}`", field.as_str()))
            .collect();
        names.join(", ")
    };
    let scope = match (&known[..], &unknown[..]) {
        (_, []) => "all fields".to_owned(),
        ([], _) => "none of the fields that choose: what is there is scanned whole".to_owned(),
        (_, unknown) => format!("all fields but {}", names(unknown)),
    };
    write!(page, "\n**Scope.** `spec.scan`: {scope}.\n").unwrap();
    page
}

/// The keys of one kind of credentials, if the type has it.
fn keys(provider: ProviderType, kind: CredentialsType) -> String {
    let mut page = String::new();
    let Some(shape) = credentials::shape(provider, kind) else {
        return page;
    };
    write!(
        page,
        "\n`type: {}`\n\n| key | needed | reaches Prowler as |\n|---|---|---|\n",
        kind.as_str()
    )
    .unwrap();
    for key in shape.keys {
        let needed = if key.required { "yes" } else { "" };
        let way = match key.delivery {
            Delivery::Env(name) => format!("`{name}`"),
            Delivery::File(_, flag) => format!("the file of `{flag}`"),
            Delivery::Flag(flag) => format!("`{flag}`"),
            Delivery::Unused => "not needed, and not used".into(),
            Delivery::Composed(composition) => {
                format!("part of the file of `{}`", composition.flag())
            }
        };
        writeln!(page, "| `{}` | {needed} | {way} |", key.name).unwrap();
    }
    let Some(choice) = shape.choice else {
        return page;
    };
    let groups: Vec<_> = choice
        .groups
        .iter()
        .map(|group| {
            let keys: Vec<_> = group.iter().map(|key| format!("`{key}`")).collect();
            keys.join(" with ")
        })
        .collect();
    let sentence = match choice.must {
        Must::ExactlyOne => format!("Exactly one of {}.", groups.join(" and ")),
        Must::AtLeastOne => format!("At least one of {}.", groups.join(" and ")),
        Must::Whole => format!("{} only together.", groups.join(", ")),
        Must::UnlessServiceAccount => format!(
            "{}, unless a `serviceAccountName` stands beside the Secret.",
            groups.join(", ")
        ),
    };
    write!(page, "\n{sentence}\n").unwrap();
    page
}
