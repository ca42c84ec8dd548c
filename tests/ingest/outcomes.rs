//! What can be in a file, and what becomes of its scan: a row of the table each, through the program's
//! own server where the answer to the sender is part of it.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use prowler_operator::domain::reason::Reason;
use prowler_operator::ingest::Outcome;
use prowler_operator::ingest::spool::Encoding;
use prowler_operator::store::publication::Standing;
use serde_json::{Value, json};

use crate::site::{Running, Site, fixture};
use crate::support::ocsf::{array, file, record};
use crate::world::World;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// So many records, the last of which are none.
fn with_bad(records: usize, bad: usize) -> Vec<u8> {
    let good = (0..records - bad).map(|n| record("c", &n.to_string()).json());
    array(good.chain((0..bad).map(|n| json!({ "number": n }))))
}

/// The word under which a file's scan ends, and its sentence.
async fn ends(world: &World, body: &[u8], encoding: Encoding) -> (&'static str, String) {
    let attempt = world.scan().await;
    match world.publish_body(&attempt, body, encoding).await {
        Outcome::Published(_) => ("Completed", String::new()),
        Outcome::Closed(Standing::Refused { reason, message }) => (reason.as_str(), message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn more_than_one_bad_record_in_ten_poisons_the_file() {
    let world = World::new().await;
    for (records, bad, published) in [
        (10, 1, true),
        (9, 1, false),
        (11, 2, false),
        (29, 2, true),
        (29, 3, false),
        (30, 3, true),
        (1, 1, false),
    ] {
        let attempt = world.scan().await;
        let outcome = world.publish(&attempt, &with_bad(records, bad)).await;
        let told = match &outcome {
            Outcome::Published(it) => Some((it.findings, it.quarantined)),
            _ => None,
        };
        let expected = (i64::try_from(records - bad).unwrap(), bad as u64);
        assert_eq!(
            told,
            published.then_some(expected),
            "{records} {bad} {outcome:?}"
        );
        let (state, reason, _) = world.state(&attempt).await;
        let state = (&*state, reason.as_deref());
        let ended = if published {
            ("completed", Some("Completed"))
        } else {
            ("failed", Some("OutputPoisoned"))
        };
        assert_eq!(state, ended);
        let scan = attempt.scan;
        let set_aside: Vec<(i32, i64)> = world
            .rows(&format!(
                "select quarantined, (select count(*) from quarantined_findings q
                   where q.scan_id = s.id and q.attempt = 1) from scans s where id = '{scan}'"
            ))
            .await;
        // Whether published or not: who has to find out why can look at them.
        let bad = i32::try_from(bad).unwrap();
        assert_eq!(set_aside, [(bad, bad.into())]);
        let findings = world
            .count(&format!("findings where scan_id = '{scan}'"))
            .await;
        assert_eq!(findings > 0, published);
    }
}

#[tokio::test]
async fn a_poisoned_file_is_told_with_its_first_reasons_once_and_within_bounds() {
    let world = World::new().await;
    let attempt = world.scan().await;
    let file = with_bad(1500, 1400);
    let mut told = Vec::new();
    for _ in 0..2 {
        match world.publish(&attempt, &file).await {
            Outcome::Closed(Standing::Refused { reason, message }) => {
                assert_eq!(reason, Reason::OutputPoisoned);
                told.push(message);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told[0], told[1]);
    let begins =
        "1400 of 1500 records of the file cannot be kept, more than one in 10: record 100 at byte ";
    assert!(told[0].starts_with(begins), "{}", told[0]);
    assert_eq!(told[0].matches("status_code is missing").count(), 3);
    assert_eq!(world.stored().await, [("quarantined_findings", 1000)]);
    let heads: Vec<(Vec<u8>,)> = world
        .rows("select head from quarantined_findings order by position limit 1")
        .await;
    let head: Value = serde_json::from_slice(&heads[0].0).unwrap();
    assert_eq!(head, json!({"number": 0}));
}

#[tokio::test]
async fn a_body_in_gzip_is_read_as_one_in_zstd() {
    let world = World::new().await;
    let whole = fixture("aws.ocsf.json");
    let (one, two) = whole.split_at(20_000);
    let parts = [gzip(one), gzip(two)].concat();
    let zipped = gzip(&whole);
    let cut = &zipped[..zipped.len() / 2];
    let zeros = gzip(&vec![b' '; 1 << 20]).repeat(1025);
    let beyond = [zipped.as_slice(), b"and something else"].concat();
    for (body, expected, words) in [
        (zipped.as_slice(), "Completed", ""),
        (&parts, "Completed", ""),
        (cut, "OutputTruncated", "could not be read"),
        (&beyond, "OutputUnreadable", "could not be read"),
        (&whole, "OutputUnreadable", "could not be read"),
        (&gzip(b""), "NoOutput", "the file is empty"),
        // A bomb: some MiB that become more than a GiB.
        (&zeros, "OutputTooLarge", "has 1073741824 bytes or more"),
    ] {
        let (reason, message) = ends(&world, body, Encoding::Gzip).await;
        assert_eq!(reason, expected, "{message}");
        assert!(message.contains(words), "{message}");
    }
    let count = world.count("findings").await;
    assert_eq!(count, 14, "two files of seven");
}

#[tokio::test]
async fn a_body_whose_compression_is_broken_publishes_nothing() {
    let world = World::new().await;
    let whole = fixture("aws.ocsf.json");
    let zstd = zstd::encode_all(&whole[..], 3).unwrap();
    let mut flipped = zstd.clone();
    flipped[zstd.len() / 2] ^= 0x55;
    let beyond = [zstd.as_slice(), b"and something else"].concat();
    for (body, expected) in [
        (&zstd[..zstd.len() / 2], "OutputTruncated"),
        (&zstd[..3], "OutputTruncated"),
        (&flipped, "OutputUnreadable"),
        (&beyond, "OutputUnreadable"),
        (b"no zstd at all", "OutputUnreadable"),
    ] {
        let (reason, message) = ends(&world, body, Encoding::Zstd).await;
        assert_eq!(reason, expected, "{message}");
    }
    assert_eq!(world.stored().await, []);
}

#[tokio::test]
async fn nesting_a_million_deep_is_unreadable_wherever_it_stands() {
    let world = World::new().await;
    let deep = |open: &str, close: &str| open.repeat(1_000_000) + &close.repeat(1_000_000);
    let one = serde_json::to_string(&record("c", "a").json()).unwrap();
    let inside = format!("{{\"finding_info\": {}}}", deep("[", "]"));
    for file in [
        deep("[", "]"),
        deep("[", ""),
        format!("[{}", deep("{\"a\":", "")),
        format!("[{one},{inside}]"),
    ] {
        let (reason, message) = ends(&world, file.as_bytes(), Encoding::Identity).await;
        assert_eq!(reason, "OutputUnreadable", "{message}");
        assert!(message.contains("nested deeper than 32768 levels"));
    }
    assert_eq!(world.stored().await, []);
}

/// Posts a body; the answer's status and reason.
async fn answer(site: &Site, running: &Running, encoding: &str, body: &[u8]) -> (u16, Value) {
    let bearer = format!("Bearer {}", running.token);
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-encoding", encoding),
    ];
    let (status, after, mut answer) = site.post(&headers, body).await;
    assert_eq!(after, None);
    (status, answer["reason"].take())
}

#[tokio::test]
async fn the_sender_is_told_what_became_of_its_file() {
    let site = Site::with(World::new().await, &[("MAX_FILE_BYTES", "1Mi")]).await;
    let small = file(&[record("c", "a")]);
    let large = format!("[{}]", " ".repeat(1 << 20)).into_bytes();
    let limit = format!("[{}]", " ".repeat((1 << 20) - 2)).into_bytes();
    let below = format!("[{}]", " ".repeat((1 << 20) - 3)).into_bytes();
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    for (encoding, body, status, reason) in [
        ("gzip", gzip(&small), 200, "Completed"),
        ("GZIP", gzip(&small), 200, "Completed"),
        ("identity", small.clone(), 200, "Completed"),
        ("gzip", gzip(&large), 413, "OutputTooLarge"),
        ("zstd", zstd(&large), 413, "OutputTooLarge"),
        ("identity", large.clone(), 413, "OutputTooLarge"),
        ("zstd", zstd(&limit), 413, "OutputTooLarge"),
        ("zstd", zstd(&below), 200, "Completed"),
        ("gzip", small.clone(), 422, "OutputUnreadable"),
        ("gzip", gzip(&small[..9]), 422, "OutputTruncated"),
        ("identity", with_bad(9, 1), 422, "OutputPoisoned"),
    ] {
        let running = site.running().await;
        // Twice: the first answer may be lost.
        for _ in 0..2 {
            let told = answer(&site, &running, encoding, &body).await;
            assert_eq!(told, (status, json!(reason)), "{encoding}");
        }
        let state = site.world.state(&running.attempt).await;
        assert_eq!(state.1.as_deref(), Some(reason));
    }
    let running = site.running().await;
    for encoding in ["br", "gzip, zstd", ""] {
        let told = answer(&site, &running, encoding, &small).await;
        assert_eq!(told, (415, json!("UnsupportedEncoding")), "{encoding}");
    }
    assert_eq!(site.world.state(&running.attempt).await.0, "executing");
    assert_eq!(site.spooled_files(), 0);
}
