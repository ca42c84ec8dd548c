//! Files of real Prowler, of the version in the scanner's image and of releases before it, become
//! the rows that a plain reading of them gives; and what Prowler writes beside them stays where it
//! is. `tests/fixtures/real/README.md` says how they were made.

use std::collections::BTreeMap;
use std::path::Path;

use prowler_operator::ingest::Outcome;
use prowler_operator::ingest::spool::Encoding;
use prowler_operator::store::publication::Attempt;
use serde_json::Value;

use crate::reading::{Rows, read};
use crate::site::{Site, fixture};
use crate::support::command::top;
use crate::support::db::Db;
use crate::world::World;

/// What stands in the place of a value that may be secret.
const MARKS: [&str; 2] = ["[masked]", "[redacted]"];

/// A file of a version of Prowler.
struct Real {
    provider: String,
    version: String,
    /// As it lies among the fixtures.
    compressed: Vec<u8>,
    file: Vec<u8>,
}

impl Real {
    /// All that there are.
    fn all() -> Vec<Self> {
        let mut names: Vec<String> = std::fs::read_dir(top().join("tests/fixtures/real"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".ocsf.json.zst"))
            .collect();
        names.sort();
        names.iter().map(|name| Self::of(name)).collect()
    }

    fn of(name: &str) -> Self {
        let (provider, version) = name.split_once('-').unwrap();
        let compressed = fixture(&format!("real/{name}"));
        Self {
            provider: provider.to_owned(),
            version: version.trim_end_matches(".ocsf.json.zst").to_owned(),
            file: zstd::decode_all(&*compressed).unwrap(),
            compressed,
        }
    }

    /// That of the version in the scanner's image.
    fn pinned(provider: &str) -> Self {
        Self::of(&format!("{provider}-{}.ocsf.json.zst", pinned_version()))
    }

    /// An account that the file is of.
    fn uid(&self) -> &'static str {
        match &*self.provider {
            "aws" => "123456789012",
            _ => "prowler-local",
        }
    }
}

fn pinned_version() -> String {
    let packages = top().join("hack/images.d/scanner/requirements.txt");
    let packages = std::fs::read_to_string(packages).unwrap();
    let mut lines = packages.lines();
    let version = lines.find_map(|line| line.strip_prefix("prowler=="));
    version.unwrap().to_owned()
}

/// What the tables hold of a scan.
async fn stored(world: &World, attempt: &Attempt) -> Rows {
    let findings: Vec<(Value,)> = world
        .rows(&format!(
            "select jsonb_build_object('uid', f.uid, 'check', f.check_id, 'status', f.status,
               'status_extended', f.status_extended, 'severity', f.severity, 'muted', f.muted,
               'muted_reason', f.muted_reason, 'delta', f.delta, 'regions', f.resource_regions,
               'services', f.resource_services, 'types', f.resource_types,
               'categories', f.categories, 'resource', r.uid, 'metadata', c.metadata)
             from findings f
             left join resource_finding_mappings m
               on m.tenant_id = f.tenant_id and m.finding_id = f.id
             left join resources r on r.tenant_id = f.tenant_id and r.id = m.resource_id
             left join check_metadata c on c.tenant_id = f.tenant_id
               and c.check_id = f.check_id and c.sha256 = f.check_sha256
             where f.tenant_id = '{}' and f.scan_id = '{}' order by f.id",
            world.tenant, attempt.scan
        ))
        .await;
    let resources: Vec<(Value,)> = world
        .rows(&format!(
            "select jsonb_build_object('uid', uid, 'name', name, 'region', region,
               'service', service, 'type', type, 'partition', partition, 'details', details,
               'metadata', metadata::jsonb, 'failed', failed_findings_count,
               'tags', array(select t.key || '=' || t.value from resource_tag_mappings m
                 join resource_tags t on t.tenant_id = m.tenant_id and t.id = m.tag_id
                 where m.tenant_id = r.tenant_id and m.resource_id = r.id
                 order by (t.key || '=' || t.value) collate \"C\"))
             from resources r where tenant_id = '{}' order by uid collate \"C\"",
            world.tenant
        ))
        .await;
    let mut counts: Vec<(Value,)> = world
        .rows(&format!(
            "select counts || jsonb_build_object('resources', unique_resource_count)
             from scans where id = '{}'",
            attempt.scan
        ))
        .await;
    Rows {
        findings: findings.into_iter().map(|(row,)| row).collect(),
        resources: resources.into_iter().map(|(row,)| row).collect(),
        counts: counts.remove(0).0,
    }
}

/// Where stored values are not those that were told; a mark may stand for any value and any part
/// of a text.
fn differences(stored: &Value, told: &Value, path: &str, found: &mut Vec<String>) {
    match (stored, told) {
        (Value::String(mark), _) if MARKS.contains(&&**mark) => {}
        (Value::String(stored), Value::String(told)) if is_marked(stored, told) => {}
        (Value::Array(stored), Value::Array(told)) if stored.len() == told.len() => {
            for (at, (stored, told)) in stored.iter().zip(told).enumerate() {
                differences(stored, told, &format!("{path}[{at}]"), found);
            }
        }
        (Value::Object(stored), Value::Object(told)) if stored.keys().eq(told.keys()) => {
            for (key, value) in stored {
                differences(value, &told[key], &format!("{path}.{key}"), found);
            }
        }
        _ if stored == told => {}
        _ => found.push(format!("{path}: {stored}, and the file says {told}")),
    }
}

/// Whether a text is another one, parts of which are marked.
fn is_marked(stored: &str, told: &str) -> bool {
    let unified = stored.replace(MARKS[1], MARKS[0]);
    let parts: Vec<&str> = unified.split(MARKS[0]).collect();
    let [first, between @ .., last] = &*parts else {
        return false;
    };
    let within = told
        .strip_prefix(first)
        .and_then(|rest| rest.strip_suffix(last));
    let Some(mut rest) = within else { return false };
    between.iter().all(|part| {
        let at = rest.find(part);
        rest = at.map_or("", |at| &rest[at + part.len()..]);
        at.is_some()
    })
}

fn assert_same(stored: &Rows, told: &Rows, context: &str) {
    let rows = |rows: &[Value]| Value::Array(rows.to_vec());
    for (name, stored, told) in [
        ("counts", stored.counts.clone(), told.counts.clone()),
        ("resources", rows(&stored.resources), rows(&told.resources)),
        ("findings", rows(&stored.findings), rows(&told.findings)),
    ] {
        let number = |rows: &Value| rows.as_array().map(Vec::len);
        assert_eq!(number(&stored), number(&told), "{name}, {context}");
        let mut found = Vec::new();
        differences(&stored, &told, name, &mut found);
        let all = found.len();
        found.truncate(10);
        assert_eq!(all, 0, "differences, {context}\n{}", found.join("\n"));
    }
}

#[test]
fn there_are_files_of_the_image_s_prowler_and_of_two_releases_before_it() {
    let mut versions = BTreeMap::<_, Vec<_>>::new();
    for real in Real::all() {
        let wanted = format!("\"version\": \"{}\"", real.version);
        let text = String::from_utf8(real.file).unwrap();
        assert!(
            text.contains(&wanted),
            "{} is no {}",
            real.provider,
            real.version
        );
        versions
            .entry(real.provider)
            .or_default()
            .push(real.version);
    }
    for provider in ["aws", "kubernetes"] {
        let versions = &versions[provider];
        // Who moves to another Prowler makes its files: hack/fixtures.
        assert!(
            versions.contains(&pinned_version()),
            "{provider}: {versions:?}"
        );
        assert!(versions.len() >= 3, "{provider}: {versions:?}");
    }
}

#[tokio::test]
async fn a_real_file_becomes_the_rows_of_a_plain_reading_and_not_one_is_set_aside() {
    let db = Db::new().await;
    for real in Real::all() {
        let told = read(&real.provider, &real.file);
        let context = format!(
            "{} {}: {} bytes ({} compressed), {} findings, {} resources, {} checks",
            real.provider,
            real.version,
            real.file.len(),
            real.compressed.len(),
            told.findings.len(),
            told.resources.len(),
            told.checks(),
        );
        println!("{context}, {}", told.counts);
        assert!(told.findings.len() >= 100, "{context}");
        // Each is a tenant's of its own in the same database.
        let world = World::on(db.clone(), &real.provider, real.uid()).await;
        let attempt = world.scan().await;
        let outcome = world
            .publish_body(&attempt, &real.compressed, Encoding::Zstd)
            .await;
        let Outcome::Published(published) = outcome else {
            panic!("{outcome:?} {context}")
        };
        assert_eq!(published.quarantined, 0, "{context}");
        assert_same(&stored(&world, &attempt).await, &told, &context);
        assert_eq!(world.count("quarantined_findings").await, 0, "{context}");
    }
}

#[tokio::test]
async fn a_real_file_gives_the_same_rows_whether_compressed_or_plain() {
    let db = Db::new().await;
    for provider in ["aws", "kubernetes"] {
        let real = Real::pinned(provider);
        let world = World::on(db.clone(), provider, real.uid()).await;
        let compressed = world.scan().await;
        let outcome = world
            .publish_body(&compressed, &real.compressed, Encoding::Zstd)
            .await;
        assert!(matches!(outcome, Outcome::Published(_)), "{outcome:?}");
        let mut first = stored(&world, &compressed).await;

        let plain = world.scan().await;
        let outcome = world
            .publish_body(&plain, &real.file, Encoding::Identity)
            .await;
        assert!(matches!(outcome, Outcome::Published(_)), "{outcome:?}");
        // The second time nothing is new, which is all that tells them apart.
        for row in &mut first.findings {
            assert_eq!(row["delta"].take(), "new", "{row}");
        }
        first.counts["new"] = 0.into();
        let second = stored(&world, &plain).await;
        assert_eq!(second, first, "{provider}");
    }
}

/// What Prowler writes into the same folder when it is asked for more than one format.
fn put_other_formats(folder: &Path) {
    for name in ["scan.csv", "scan.html"] {
        std::fs::write(folder.join(name), fixture(&format!("real/{name}"))).unwrap();
    }
    std::fs::create_dir(folder.join("compliance")).unwrap();
}

#[tokio::test]
async fn of_a_folder_with_other_formats_the_ocsf_file_alone_is_sent() {
    let site = Site::new().await;
    let real = Real::pinned("aws");

    // They are not taken for the findings, where those are missing or in their place.
    for (file, reason) in [
        (None, "NoOutput"),
        (Some(fixture("real/scan.csv")), "OutputUnreadable"),
        (Some(fixture("real/scan.html")), "OutputUnreadable"),
    ] {
        let running = site.running().await;
        let (command, place) = site.upload_command(&running.token, file.as_deref());
        put_other_formats(&place);
        let uploaded = site.finish_upload(command, place).await;
        assert_eq!(uploaded.left["reason"], reason, "{}", uploaded.left);
        assert_eq!(site.world.stored().await, []);
    }

    let running = site.running().await;
    let (command, place) = site.upload_command(&running.token, Some(&real.file));
    put_other_formats(&place);
    let uploaded = site.finish_upload(command, place).await;
    assert_eq!(uploaded.code, 0, "{}", uploaded.left);
    let stored = stored(&site.world, &running.attempt).await;
    assert_same(&stored, &read("aws", &real.file), "uploaded");
}
