//! Invalid values: by a field's schema, and by what the words mean.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::valid::Sample;

/// A spec that is sound but for one field.
pub struct Case {
    /// Path of the field in the spec; `[]` stands for an item of a list, `{}` for a value of a map.
    pub field: String,
    /// In which way it is wrong.
    pub class: &'static str,
    pub spec: Value,
    /// How the object's state is to begin if the API server takes the spec.
    pub says: &'static str,
}

impl Case {
    /// Whether the field is named: by its path, or by its last word where a sentence speaks of
    /// several fields.
    ///
    /// Where the operator waits for something, that is named instead.
    pub fn named_in(&self, text: &str) -> bool {
        if self.says.starts_with("InProgress ") && text.contains("absent") {
            return true;
        }
        let path = self.field.replace("[]", "").replace("{}", "");
        let last = path.rsplit('.').next().unwrap();
        text.contains(last)
    }
}

/// Paths of all fields of the schema, the spec itself not among them.
pub fn fields(schema: &Value) -> BTreeSet<String> {
    fn walk(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = below(path, name);
            found.insert(path.clone());
            walk(field, &path, found);
        }
        for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
            if schema[key].is_object() {
                let path = format!("{path}{mark}");
                found.insert(path.clone());
                walk(&schema[key], &path, found);
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(schema, "", &mut found);
    found
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// For each field that the spec has and `seen` has not: each class that its schema excludes.
pub fn cases(schema: &Value, spec: &Value, seen: &mut BTreeSet<String>) -> Vec<Case> {
    let mut wrong = Vec::new();
    let mut walk = Walk {
        whole: spec,
        seen,
        wrong: &mut wrong,
    };
    walk.object(schema, spec, "", "");
    wrong
}

struct Walk<'a> {
    whole: &'a Value,
    seen: &'a mut BTreeSet<String>,
    wrong: &'a mut Vec<Case>,
}

impl Walk<'_> {
    fn object(&mut self, schema: &Value, value: &Value, path: &str, pointer: &str) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let Some(value) = value.get(name) else {
                continue;
            };
            self.field(
                field,
                value,
                &below(path, name),
                &format!("{pointer}/{name}"),
            );
        }
        if let (Some(map), values @ Value::Object(_)) =
            (value.as_object(), &schema["additionalProperties"])
        {
            for (key, value) in map {
                self.field(
                    values,
                    value,
                    &format!("{path}{{}}"),
                    &format!("{pointer}/{key}"),
                );
            }
        }
    }

    fn field(&mut self, schema: &Value, value: &Value, path: &str, pointer: &str) {
        if self.seen.insert(path.to_owned()) {
            for (class, bad) in invalid(path, schema, value) {
                self.add(path, class, pointer, bad);
            }
            if schema["type"] == "object" && schema["properties"].is_object() {
                self.misspell(value, path, pointer);
                self.leave_out(schema, value, path, pointer);
            }
        }
        if let Some(first) = value.as_array().and_then(|items| items.first()) {
            let (path, pointer) = (format!("{path}[]"), format!("{pointer}/0"));
            self.field(&schema["items"], first, &path, &pointer);
        } else if value.is_object() {
            self.object(schema, value, path, pointer);
        }
    }

    fn add(&mut self, path: &str, class: &'static str, pointer: &str, bad: Value) {
        let mut spec = self.whole.clone();
        *spec.pointer_mut(pointer).unwrap() = bad;
        self.wrong.push(Case {
            field: path.to_owned(),
            class,
            spec,
            says: "Failed ",
        });
    }

    /// A word that the definition does not know, as a misspelt one is.
    fn misspell(&mut self, value: &Value, path: &str, pointer: &str) {
        let mut object = value.clone();
        object["misspelt"] = json!("x");
        self.add(path, "a field that is not known", pointer, object);
        // Its own name is what has to be told.
        self.wrong.last_mut().unwrap().field = below(path, "misspelt");
    }

    fn leave_out(&mut self, schema: &Value, value: &Value, path: &str, pointer: &str) {
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap();
            let mut object = value.clone();
            object.as_object_mut().unwrap().remove(name);
            self.add(path, "left out", pointer, object);
            self.wrong.last_mut().unwrap().field = below(path, name);
        }
    }
}

/// What the rules of a field let pass.
const FREE: &[(&str, &str)] = &[
    // As cron does.
    ("schedule", "a space before"),
    // S3 has nothing against them.
    ("configuration.outputDirectory", "a flag"),
    ("configuration.outputDirectory", "a space before"),
    ("configuration.outputDirectory", "letters of elsewhere"),
];

/// Values that the schema of a field excludes, by class.
fn invalid(field: &str, schema: &Value, sound: &Value) -> Vec<(&'static str, Value)> {
    #[expect(clippy::cast_possible_truncation, reason = "bounds are whole numbers")]
    let number = |key: &str| schema[key].as_f64().map(|bound| bound as i64);
    let length = |key: &str| number(key).and_then(|n| usize::try_from(n).ok());
    let mut found = Vec::new();
    if schema["x-kubernetes-int-or-string"] == json!(true) {
        found.push(("a truth", json!(true)));
        found.push(("no amount", json!("lots")));
        found.push(("below nothing", json!("-1")));
        found.push(("a space inside", json!("1 Gi")));
        found.push(("too long", json!("1".repeat(33))));
        return found;
    }
    match schema["type"].as_str().unwrap() {
        "string" => {
            found.push(("a number", json!(7)));
            if let Some(words) = schema["enum"].as_array() {
                found.push(("a word not in the list", json!("Nonsense")));
                found.push(("another case", json!(other_case(words))));
                return found;
            }
            if length("minLength").is_some_and(|min| min > 0) {
                found.push(("empty", json!("")));
            }
            let max = length("maxLength").unwrap();
            found.push(("too long", json!("a".repeat(max + 1))));
            let text = sound.as_str().unwrap();
            let rules = schema["x-kubernetes-validations"].is_array();
            let pattern = schema["pattern"].as_str().map(|p| Regex::new(p).unwrap());
            for (class, bad) in [
                ("a character that is none", format!("{text}\u{0}")),
                ("a line break", format!("{text}\nx")),
                ("a flag", format!("--{text}")),
                ("a space before", format!(" {text}")),
                ("letters of elsewhere", format!("{text}é")),
            ] {
                // Some texts may hold some of these; none may hold the first.
                let free = pattern.as_ref().map_or(!rules, |p| p.is_match(&bad))
                    || FREE.contains(&(field, class));
                if !free || class == "a character that is none" {
                    found.push((class, json!(bad)));
                }
            }
        }
        "integer" => {
            found.push(("a text", json!("7x")));
            found.push(("a fraction", json!(1.5)));
            found.push(("below the least", json!(number("minimum").unwrap() - 1)));
            found.push(("above the most", json!(number("maximum").unwrap() + 1)));
        }
        "boolean" => found.push(("a text", json!("true"))),
        "array" => {
            found.push(("a text", json!("x")));
            let item = &sound[0];
            let max = length("maxItems").unwrap();
            if schema["items"]["enum"].is_null() {
                let many: Vec<Value> = (0..=max).map(|n| numbered(item, n)).collect();
                found.push(("too many", json!(many)));
            }
            if length("minItems").is_some_and(|min| min > 0) {
                found.push(("none", json!([])));
            }
            if schema["x-kubernetes-list-type"] != "atomic" {
                found.push(("the same twice", json!([item, item])));
            }
        }
        "object" => {
            found.push(("a text", json!("x")));
            found.push(("a list", json!([])));
            if let Some(max) = length("maxProperties") {
                let many: Map<String, Value> = (0..=max)
                    .map(|n| (format!("key-{n}"), json!("x")))
                    .collect();
                found.push(("too many", Value::Object(many)));
                found.push(("a key that can be none", json!({ "a b": "x" })));
            }
        }
        other => panic!("a field of type {other}: say what is invalid"),
    }
    found
}

/// The first word in upper case where it is in lower case, and the other way round.
fn other_case(words: &[Value]) -> String {
    let word = words[0].as_str().unwrap();
    let (upper, lower) = (word.to_uppercase(), word.to_lowercase());
    if word == upper { lower } else { upper }
}

/// The item, told apart from others by a number.
fn numbered(item: &Value, n: usize) -> Value {
    match item {
        Value::String(text) => json!(format!("{text}{n}")),
        Value::Object(_) => {
            let mut item = item.clone();
            let key = ["name", "key"]
                .into_iter()
                .find(|key| item[*key].is_string())
                .unwrap();
            item[key] = json!(format!("{}{n}", item[key].as_str().unwrap()));
            item
        }
        other => panic!("{other}"),
    }
}

/// What the schema cannot know: values that are well written and make no sense.
pub fn by_meaning(kind: &str, sample: &Sample) -> Vec<Case> {
    let absent = json!([{ "name": "absent" }]);
    let wishes = [
        ("/scan/image", json!("prowler:unknown"), "Failed "),
        ("/scan/resources/limits/cpu", json!("100"), "Failed "),
        ("/scan/resources/limits/memory", json!("900Gi"), "Failed "),
        ("/scan/resources/requests/memory", json!("2Gi"), "Failed "),
        ("/scan/activeDeadlineSeconds", json!(604_800), "Failed "),
    ];
    let own: Vec<(&str, Value, &'static str)> = match kind {
        "Tenant" => vec![
            ("/namespaces", json!(["denied-x"]), "Failed "),
            ("/limits/concurrentScans", json!(10_000), "Failed "),
            ("/limits/providers", json!(1_000_000), "Failed "),
            ("/limits/scanMemory", json!("900Gi"), "Failed "),
            ("/limits/scanCPU", json!("900"), "Failed "),
            ("/limits/scanDeadlineSeconds", json!(604_800), "Failed "),
            (
                "/mutelist/configMapRef/namespace",
                json!("of-somebody-else"),
                "Failed ",
            ),
        ],
        "Provider" => vec![
            ("/uid", json!("12345"), "Failed "),
            ("/provider", json!("github"), "Failed "),
            (
                "/credentials/secretRef/name",
                json!("absent"),
                "InProgress SecretNotFound",
            ),
            (
                "/credentials/serviceAccountName",
                json!("absent"),
                "InProgress ServiceAccountNotFound",
            ),
            ("/connectionCheck/interval", json!("1s"), "Failed "),
        ],
        "ProviderGroup" => vec![("/providerRefs", absent, "InProgress ProviderNotFound")],
        "Role" => vec![
            (
                "/providerGroupRefs",
                absent,
                "InProgress ProviderGroupNotFound",
            ),
            ("/subjects/0/name", json!("Not-A-Name"), "Failed "),
        ],
        "ScanSchedule" => vec![
            ("/schedule", json!("0 0 31 2 *"), "Failed InvalidSchedule"),
            ("/schedule", json!("61 0 * * *"), "Failed InvalidSchedule"),
            (
                "/timeZone",
                json!("Europe/Atlantis"),
                "Failed UnknownTimeZone",
            ),
            ("/schedule", json!("*/4 * * * *"), "Failed TooFrequent"),
            ("/interval", json!("1s"), "Failed "),
            ("/interval", json!("4m59s"), "Failed TooFrequent"),
            ("/providerRefs", absent, "InProgress ProviderNotFound"),
        ],
        "Scan" => vec![(
            "/providerRef/name",
            json!("absent"),
            "InProgress ProviderNotFound",
        )],
        "Integration" => vec![
            ("/providerRefs", absent, "InProgress ProviderNotFound"),
            ("/configuration/bucketName", json!("A_B"), "Failed "),
            ("/configuration/outputDirectory", json!("a/../b"), "Failed "),
            (
                "/credentials/secretRef/name",
                json!("absent"),
                "InProgress SecretNotFound",
            ),
        ],
        _ => Vec::new(),
    };
    wishes
        .into_iter()
        .chain(own)
        .filter_map(|(pointer, bad, says)| {
            let mut spec = sample.spec.clone();
            *spec.pointer_mut(pointer)? = bad;
            let field = pointer[1..].replace("/0", "[]").replace('/', ".");
            Some(Case {
                field,
                class: "without sense",
                spec,
                says,
            })
        })
        .collect()
}
