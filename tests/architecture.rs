//! What holds the crate together and no compiler checks: which chapter may name which, where
//! SQL may be, how long a file may get, and that generated and described things are current.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use prometheus_client::registry::Registry;
use prowler_operator::api::manifest::to_yaml;
use prowler_operator::domain::reason::Reason;
use prowler_operator::metrics;
use prowler_operator::metrics::controller::ControllerMetrics;
use prowler_operator::metrics::database::{Connections, DATABASE, Pools};
use prowler_operator::metrics::kubernetes::KubernetesMetrics;
use prowler_operator::metrics::queue::Repair;
use prowler_operator::metrics::server::ServerMetrics;
use regex::Regex;

#[path = "architecture/provider_types.rs"]
mod provider_types;

/// A chapter, the chapters it may name, and outside names it may not.
struct Chapter {
    name: &'static str,
    may_name: &'static [&'static str],
    never: &'static [&'static str],
}

/// The arrows. This table is the documentation.
const CHAPTERS: &[Chapter] = &[
    // Types, schema and rules: what users write.
    Chapter {
        name: "api",
        may_name: &[],
        never: &[
            "kube::Client",
            "kube::Api",
            "sqlx",
            "tokio",
            "axum",
            "reqwest",
            "Timestamp::now",
        ],
    },
    // Pure: what it needs it is given.
    Chapter {
        name: "domain",
        may_name: &["api"],
        never: &[
            "kube::",
            "kube_runtime",
            "sqlx",
            "tokio",
            "axum",
            "reqwest",
            "std::fs",
            "std::env",
        ],
    },
    // The only place with SQL; knows nothing of Kubernetes.
    Chapter {
        name: "store",
        may_name: &["api", "domain", "config", "metrics"],
        never: &["kube::", "kube_runtime", "k8s_openapi", "axum", "reqwest"],
    },
    // The only two with a client that writes, and a store. Health is answered as by the server.
    Chapter {
        name: "controllers",
        may_name: &[
            "api",
            "domain",
            "store",
            "dispatch",
            "server",
            "config",
            "metrics",
            "telemetry",
        ],
        never: &["sqlx::query", "axum", "reqwest"],
    },
    Chapter {
        name: "dispatch",
        may_name: &["api", "domain", "store", "config", "metrics"],
        never: &["sqlx::query", "axum", "reqwest"],
    },
    // Bytes to rows.
    Chapter {
        name: "ingest",
        may_name: &["api", "domain", "store", "metrics"],
        never: &[
            "kube::",
            "kube_runtime",
            "k8s_openapi",
            "sqlx::query",
            "axum",
            "reqwest",
        ],
    },
    // Reads Kubernetes, to know whose token it was shown; writes nothing there.
    Chapter {
        name: "server",
        may_name: &[
            "api",
            "domain",
            "store",
            "ingest",
            "config",
            "metrics",
            "telemetry",
        ],
        never: &["sqlx::query", "reqwest", "PatchParams", "DeleteParams"],
    },
    // In scan pods, beside other people's credentials: no database, no Kubernetes.
    Chapter {
        name: "upload",
        may_name: &["domain", "config"],
        never: &["kube::", "k8s_openapi", "sqlx", "axum"],
    },
    // In scan pods, with the tenant's keys: nothing that could carry them away.
    Chapter {
        name: "compose",
        may_name: &["domain", "config"],
        never: &[
            "kube::",
            "k8s_openapi",
            "sqlx",
            "axum",
            "reqwest",
            "hyper",
            "tokio",
            "tracing",
        ],
    },
    // A take-over compares the database's installation id with the cluster's.
    Chapter {
        name: "bootstrap",
        may_name: &["api", "domain", "store", "config"],
        never: &["sqlx", "axum", "reqwest"],
    },
    // Reads Kubernetes, to see what runs; writes nothing there.
    Chapter {
        name: "check",
        may_name: &["api", "domain", "store", "config"],
        never: &[
            "sqlx::query",
            "axum",
            "reqwest",
            "PatchParams",
            "DeleteParams",
        ],
    },
    Chapter {
        name: "metrics",
        may_name: &["domain"],
        never: &["sqlx", "kube::"],
    },
    Chapter {
        name: "config",
        may_name: &["domain"],
        never: &["sqlx::query", "kube::Client"],
    },
    Chapter {
        name: "telemetry",
        may_name: &["config"],
        never: &["sqlx", "kube::"],
    },
];

/// Lines a file may have, its tests apart.
const LONGEST: usize = 400;

/// A source file without its tests.
struct Source {
    path: PathBuf,
    chapter: String,
    text: String,
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let src = top().join("src");
    let mut sources = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let inside = path.strip_prefix(&src).unwrap();
            let stem = inside.file_stem().unwrap().to_str().unwrap();
            if path.extension().is_none_or(|extension| extension != "rs")
                || stem == "tests"
                || stem.ends_with("_tests")
            {
                continue;
            }
            let first = inside
                .components()
                .next()
                .unwrap()
                .as_os_str()
                .to_str()
                .unwrap();
            let chapter = first.trim_end_matches(".rs").to_owned();
            let text = without_tests(&std::fs::read_to_string(&path).unwrap());
            sources.push(Source {
                path: inside.to_owned(),
                chapter,
                text,
            });
        }
    }
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(sources.len() > 20, "the sources were not found");
    sources
}

fn without_tests(text: &str) -> String {
    match text.split_once("#[cfg(test)]\nmod ") {
        Some((code, _)) => code.to_owned(),
        None => text.to_owned(),
    }
}

/// The code of a file: no comments.
fn code(text: &str) -> String {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Chapters that a piece of code names, also in grouped imports.
fn named(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        let mut depth = 0_u32;
        let mut fresh = true;
        for (index, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => fresh = true,
                c if fresh && c.is_alphabetic() => {
                    found.insert(word(&group[index..]));
                    fresh = false;
                }
                _ => {}
            }
        }
    }
    found.remove("");
    found
}

fn word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

#[test]
fn grouped_and_single_imports_are_both_seen() {
    let code =
        "use crate::api::Scan;\nuse crate::{store::{Db, x}, domain};\nlet a = crate::metrics::b();";
    let names: Vec<_> = named(code, "crate::").into_iter().collect();
    assert_eq!(names, ["api", "domain", "metrics", "store"]);
}

#[test]
fn chapters_name_only_those_the_table_allows() {
    let chapters: BTreeMap<_, _> = CHAPTERS
        .iter()
        .map(|chapter| (chapter.name, chapter))
        .collect();
    let mut wrong = Vec::new();
    for source in sources() {
        let path = source.path.display();
        let code = code(&source.text);
        if matches!(source.chapter.as_str(), "lib" | "main") {
            continue;
        }
        let Some(chapter) = chapters.get(source.chapter.as_str()) else {
            wrong.push(format!(
                "{path}: chapter '{}' is not in the table",
                source.chapter
            ));
            continue;
        };
        for other in named(&code, "crate::") {
            let ours = chapters.contains_key(other.as_str());
            if ours && other != chapter.name && !chapter.may_name.contains(&other.as_str()) {
                wrong.push(format!("{path} names {other}"));
            }
        }
        for name in chapter.never {
            if code.contains(name) {
                wrong.push(format!("{path} names {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_chapter_is_in_the_table_and_in_the_map() {
    let lib = std::fs::read_to_string(top().join("src/lib.rs")).unwrap();
    let modules: BTreeSet<_> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    let table: BTreeSet<_> = CHAPTERS.iter().map(|chapter| chapter.name).collect();
    assert_eq!(modules, table);
}

#[test]
fn sql_is_in_the_store_alone() {
    for source in sources().iter().filter(|source| source.chapter != "store") {
        let code = code(&source.text);
        for sign in [
            "sqlx::query",
            "sqlx::raw_sql",
            "query!(",
            "query_as!(",
            "query_scalar!(",
        ] {
            assert!(!code.contains(sign), "{} has {sign}", source.path.display());
        }
    }
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    for source in sources() {
        assert!(source.text.starts_with("//!"), "{}", source.path.display());
    }
}

#[test]
fn no_file_is_too_long_and_none_is_called_mod() {
    let mut wrong = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > LONGEST {
            wrong.push(format!("{}: {lines} lines", source.path.display()));
        }
        if source.path.ends_with("mod.rs") {
            wrong.push(format!("{}: foo.rs beside foo/", source.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_say_what_a_thing_is() {
    for source in sources() {
        for line in code(&source.text).lines() {
            let defined = ["struct ", "enum ", "trait ", "type "]
                .iter()
                .filter_map(|keyword| line.split_once(keyword))
                .filter(|(before, _)| before.trim_start().is_empty() || before.trim() == "pub")
                .map(|(_, name)| word(name));
            for name in defined {
                for vague in ["Manager", "Helper", "Util", "Handler", "Processor"] {
                    assert!(!name.contains(vague), "{}: {name}", source.path.display());
                }
            }
        }
    }
}

/// Row security is the wall; this is the door beside it. A statement that names its tenant finds no
/// other's rows even where a policy were missing, and uses the indexes, which begin with the tenant.
#[test]
fn every_statement_over_a_tenants_table_names_its_tenant() {
    let mut tables = Vec::new();
    let protected = Regex::new(r"protect\('([a-z_]+)'").unwrap();
    for entry in std::fs::read_dir(top().join("migrations")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        tables.extend(
            protected
                .captures_iter(&text)
                .map(|found| found[1].to_owned()),
        );
    }
    // Its own rows are known by their id.
    tables.retain(|table| table != "tenants");
    assert!(tables.len() > 15, "{tables:?}");
    let named = format!(r"\b(?:from|join|into|update)\s+(?:{})\b", tables.join("|"));
    let named = Regex::new(&named).unwrap();
    let literal = Regex::new(r##"(?s)r#"(.*?)"#|"((?:[^"\\]|\\.)*)""##).unwrap();
    let mut statements = 0;
    for source in sources() {
        if source.chapter != "store" {
            continue;
        }
        let program = source.text.split("#[cfg(test)]").next().unwrap_or_default();
        for found in literal.captures_iter(&code(program)) {
            let statement = found
                .get(1)
                .or(found.get(2))
                .map_or("", |text| text.as_str());
            if named.is_match(statement) {
                statements += 1;
                assert!(
                    statement.contains("tenant_id"),
                    "{}: {statement}",
                    source.path.display()
                );
            }
        }
    }
    assert!(statements > 60, "{statements}");
}

#[test]
fn every_reason_is_explained_and_nothing_else() {
    let page = std::fs::read_to_string(top().join("docs/reasons.md")).unwrap();
    let mut sections: Vec<_> = page.split("\n### ").skip(1).collect();
    let words: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let headings: Vec<_> = sections.iter().map(|section| word(section)).collect();
    assert_eq!(headings, words, "docs/reasons.md and domain::reason differ");
    for (reason, section) in Reason::ALL.iter().zip(&mut sections) {
        assert!(
            section.contains(reason.meaning()),
            "{reason}: {}",
            reason.meaning()
        );
        assert_eq!(
            section.contains("*Stalled.*"),
            reason.is_stalled(),
            "{reason}"
        );
        assert_eq!(
            section.contains("*Tried again once.*"),
            reason.is_retried_once(),
            "{reason}"
        );
        assert_eq!(
            section.contains("*Tried again"),
            reason.is_retried() || reason.is_retried_once(),
            "{reason}"
        );
        for part in ["\n* Cause: ", "\n* Cure: ", "\n* Example: "] {
            let text = section.split_once(part).map(|(_, text)| text);
            let full =
                text.is_some_and(|text| text.lines().next().is_some_and(|line| !line.is_empty()));
            assert!(full, "{reason} has no{}", part.replace("\n*", ""));
        }
        let example = section
            .split_once("\n* Example: ")
            .map_or("", |(_, text)| text);
        assert!(
            example.contains(reason.as_str()),
            "{reason}: the example shows another reason"
        );
        let message = example.lines().next().unwrap_or_default();
        assert!(
            says(message),
            "{reason}: no sentence of the program reads like {message}"
        );
    }
}

/// Whether a sentence of the program, its gaps filled, is part of `text`.
fn says(text: &str) -> bool {
    static SENTENCES: LazyLock<Vec<Regex>> = LazyLock::new(|| {
        let continued = Regex::new(r"\\\n\s*").unwrap();
        let literal = Regex::new(r#""((?:[^"\\]|\\.)*)""#).unwrap();
        let gap = Regex::new(r"\{[^{}]*\}").unwrap();
        let mut sentences = Vec::new();
        for source in sources() {
            let program = source.text.split("#[cfg(test)]").next().unwrap_or_default();
            let joined = continued.replace_all(program, "");
            for found in literal.captures_iter(&joined) {
                let sentence = found[1].replace("\\\"", "\"");
                let fixed: Vec<_> = gap.split(&sentence).map(regex::escape).collect();
                // Less says nothing: any text has it somewhere.
                if fixed.iter().map(String::len).sum::<usize>() >= 12 {
                    sentences.push(Regex::new(&fixed.join(".+")).unwrap());
                }
            }
        }
        sentences
    });
    SENTENCES.iter().any(|sentence| sentence.is_match(text))
}

/// The reasons that are none of these.
fn reasons_beside(known: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let words = Reason::ALL.iter().map(|reason| reason.as_str());
    words.filter(|word| !known(word)).collect()
}

#[test]
fn every_reason_is_given_somewhere() {
    let code: String = sources()
        .iter()
        .filter(|source| source.path != Path::new("domain/reason.rs"))
        .map(|source| code(&source.text))
        .collect();
    let names: BTreeSet<_> = code
        .match_indices("Reason::")
        .map(|(at, prefix)| word(&code[at + prefix.len()..]))
        .collect();
    let unused = reasons_beside(|word| names.contains(word));
    assert!(unused.is_empty(), "nothing ever says {unused:?}");
}

/// Each word is met by a test that has a real server before it: its name stands where such a test
/// says what it expects.
#[test]
fn every_reason_is_reached_by_a_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut expected = BTreeSet::new();
    for floor in ["apiserver", "cluster", "database", "ingest"] {
        for entry in std::fs::read_dir(folder.join(floor)).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let words = text.split(|c: char| !c.is_ascii_alphanumeric());
            expected.extend(words.map(str::to_owned));
        }
    }
    let missed = reasons_beside(|word| expected.contains(word));
    assert!(missed.is_empty(), "no test reaches {missed:?}");
}

/// What is said to go on by itself must not be shown as needing a person, and the other way
/// round: wherever an outcome is made of a reason by name, its kind is the reason's.
#[test]
fn outcomes_agree_with_their_reasons() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for source in sources() {
        let code: String = code(&source.text).split_whitespace().collect();
        for (call, stalled) in [
            ("Outcome::stalled(", true),
            ("Outcome::progressing(", false),
        ] {
            for (at, _) in code.match_indices(call) {
                let Some(name) = code[at + call.len()..].strip_prefix("Reason::") else {
                    continue;
                };
                let reason = Reason::from_name(&word(name)).unwrap();
                seen += 1;
                if reason.is_stalled() != stalled {
                    wrong.push(format!("{}: {call}{reason})", source.path.display()));
                }
            }
        }
    }
    assert!(seen > 10, "the outcomes were not found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_definitions_on_disk_are_those_of_the_program() {
    let mut files = BTreeSet::new();
    for crd in prowler_operator::api::all_crds() {
        let name = format!("{}.yaml", crd.spec.names.plural);
        let wanted = to_yaml(&crd).unwrap();
        assert_eq!(wanted, to_yaml(&crd).unwrap(), "the same bytes each time");
        for folder in ["crds", "charts/prowler-operator/files/crds"] {
            let file = top().join(folder).join(&name);
            if std::env::var_os("UPDATE_CRDS").is_some() {
                std::fs::write(&file, &wanted).unwrap();
            }
            let stored = std::fs::read_to_string(&file).unwrap_or_default();
            // Not assert_eq: nobody reads two whole definitions.
            assert!(
                stored == wanted,
                "{} is out of date: hack/crds",
                file.display()
            );
        }
        files.insert(name);
    }
    for entry in std::fs::read_dir(top().join("crds")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            files.contains(&name),
            "crds/{name} is of no kind: hack/crds"
        );
    }
}

#[test]
fn the_pages_name_flags_paths_and_tests_that_there_are() {
    let checked = std::process::Command::new("hack/docs")
        .arg("--check")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env(
            "PROWLER_OPERATOR_BINARY",
            env!("CARGO_BIN_EXE_prowler-operator"),
        )
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");
}

#[test]
fn the_page_of_metrics_has_every_metric_and_nothing_else() {
    let file = top().join("docs/metrics.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let (head, rest) = page.split_once("<!-- metrics -->\n").unwrap();
    let (stored, tail) = rest.split_once("<!-- end -->").unwrap();
    let wanted = table_of_metrics();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let fresh = format!("{head}<!-- metrics -->\n{wanted}<!-- end -->{tail}");
        std::fs::write(&file, fresh).unwrap();
        return;
    }
    assert!(
        stored == wanted,
        "docs/metrics.md is out of date: UPDATE_DOCS=1 cargo test --test architecture"
    );
    // A name that is only in the program is of a metric that `exposition` forgot to touch.
    let literal = Regex::new(r#""(prowler_operator_[a-z_]+)""#).unwrap();
    let mut registered = 0;
    for source in sources() {
        for name in literal.captures_iter(&code(&source.text)) {
            registered += 1;
            let name = &name[1];
            let rows = [format!("| `{name}` |"), format!("| `{name}_total` |")];
            let listed = rows.iter().any(|row| wanted.contains(row));
            assert!(listed, "{name} is not in the table");
        }
    }
    assert_eq!(
        registered,
        wanted.lines().count() - 2,
        "a name was built, not written"
    );
}

/// Type, labels, meaning and parts of a metric.
type Row = (String, BTreeSet<String>, String, Vec<&'static str>);

/// Name, type, labels, who has it and meaning of every metric, from what the parts show.
fn table_of_metrics() -> String {
    let sample = Regex::new(r"(?m)^([a-z_]+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? ").unwrap();
    let label = Regex::new(r#"([a-z]+)=""#).unwrap();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for (part, text) in expositions() {
        let of = |what: &str, name: &str| {
            let start = format!("# {what} {name} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&start));
            line.unwrap().to_owned()
        };
        let names = text
            .lines()
            .filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next());
        for name in names {
            let labels = sample
                .captures_iter(&text)
                .filter(|found| &found[1] == name)
                .filter_map(|found| found.get(2))
                .flat_map(|labels| label.captures_iter(labels.as_str()))
                .map(|found| found[1].to_owned())
                .filter(|label| label != "le");
            let labels: BTreeSet<_> = labels.collect();
            let row = (of("TYPE", name), labels, of("HELP", name), Vec::new());
            rows.entry(name.to_owned()).or_insert(row).3.push(part);
        }
    }
    let mut table =
        String::from("| metric | type | labels | of | what it says |\n|---|---|---|---|---|\n");
    for (name, (kind, labels, help, parts)) in rows {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let (labels, parts) = (labels.join(", "), parts.join(", "));
        writeln!(table, "| `{name}` | {kind} | {labels} | {parts} | {help} |").unwrap();
    }
    table
}

/// What controller and server show once everything has happened in them.
fn expositions() -> [(&'static str, String); 2] {
    let (mut controller, mut server) = (Registry::default(), Registry::default());
    let passes = ControllerMetrics::default();
    passes.register(&mut controller);
    passes.reconciled("Scan", "settled", Duration::ZERO);
    passes.queue_depth("Scan");
    passes.watch_failed("Scan");
    passes.attempt_failed(Reason::OOMKilled);
    passes.queue.repaired(Repair::JobLost);
    passes.canary.ended(false, 0.0, Duration::ZERO);
    let uploads = ServerMetrics::default();
    uploads.register(&mut server);
    uploads.answered("Completed");
    uploads.spent("copy", std::time::Duration::ZERO);
    let (kubernetes, pools) = (KubernetesMetrics::default(), Pools::default());
    kubernetes.answered(None);
    pools.watch("user", || Connections {
        idle: 0,
        in_use: 0,
        limit: 0,
    });
    DATABASE.failed("unavailable");
    DATABASE.waited("user", Duration::ZERO);
    for registry in [&mut controller, &mut server] {
        kubernetes.register(registry);
        DATABASE.register(&pools, registry);
        metrics::build::register(registry);
    }
    [("controller", controller), ("server", server)]
        .map(|(part, registry)| (part, metrics::text::encode(&registry, "").unwrap().1))
}
