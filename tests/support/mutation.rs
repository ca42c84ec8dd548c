//! Files of findings as a broken or hostile scanner writes them: real ones, changed at random, and what
//! an independent reader says that is as simple as can be.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "a harness that cannot go on fails the test; not every test uses all of it"
)]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use serde_json::value::RawValue;

/// Bytes of a text beside which no other is long.
const LONG: usize = 32 * 1024;

/// What real files hold.
const REAL: [&str; 2] = [
    include_str!("../fixtures/aws.ocsf.json"),
    include_str!("../fixtures/kubernetes.ocsf.json"),
];

/// Texts that stand where none of them belongs.
const JUNK: [&[u8]; 24] = [
    b"\0",
    b"\\u0000",
    b"\\ud800",
    b"\\udfff\\ud800",
    b"\\ud83d\\ude00",
    b"\\",
    b"\"",
    b"\\u12",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98\x80",
    b"\x01",
    b"\x7f",
    b",",
    b",,",
    b"]",
    b"[",
    b"}",
    b"{",
    b":null",
    b"{\"a\":1}",
    b"\n \t",
];

/// Numbers that stand in the place of others.
const NUMBERS: [&str; 9] = [
    "1e999",
    "-1E+400",
    "1e308",
    "-0.0",
    "12345678901234567890123456789",
    "0x10",
    "01",
    "NaN",
    "1e-999",
];

/// A run of random files: for a few seconds, or for minutes with `SOAK=1`.
pub struct Run {
    name: &'static str,
    /// What `FUZZ_SEED` sets again.
    pub seed: u64,
    pub rng: StdRng,
    began: Instant,
    lasts: Duration,
    pub files: u32,
    least: u32,
}

impl Run {
    /// A run of so many seconds, or of so many files where that takes longer.
    pub fn new(name: &'static str, seconds: u64, least: u32) -> Self {
        let given = std::env::var("FUZZ_SEED").ok();
        let seed = given.map_or_else(rand::random, |seed| seed.parse().unwrap());
        let soak = std::env::var_os("SOAK").is_some();
        println!("{name}: FUZZ_SEED={seed}");
        Self {
            name,
            seed,
            rng: StdRng::seed_from_u64(seed),
            began: Instant::now(),
            lasts: Duration::from_secs(if soak { 180 } else { seconds }),
            files: 0,
            least,
        }
    }

    /// The next file, until time is up and enough were tried that each kind came of some.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        let up = self.began.elapsed() >= self.lasts && self.files >= self.least;
        if up {
            println!(
                "{}: {} files in {:?}",
                self.name,
                self.files,
                self.began.elapsed()
            );
            return None;
        }
        self.files += 1;
        Some(file(&mut self.rng))
    }
}

/// A record, and whether it is of a cluster.
struct Record {
    text: String,
    of_cluster: bool,
}

/// The records of the real files, each as it stands there and once more without what only makes it
/// long: so more files are tried.
static RECORDS: LazyLock<Vec<Record>> = LazyLock::new(|| {
    let mut records = Vec::new();
    for (file, of_cluster) in REAL.into_iter().zip([false, true]) {
        for real in serde_json::from_str::<Vec<&RawValue>>(file).unwrap() {
            let mut short: Value = serde_json::from_str(real.get()).unwrap();
            for long in [
                "/unmapped/compliance",
                "/unmapped/additional_urls",
                "/remediation",
            ] {
                short.pointer_mut(long).map(Value::take);
            }
            let short = serde_json::to_string_pretty(&short).unwrap();
            for text in [real.get().to_owned(), short] {
                records.push(Record { text, of_cluster });
            }
        }
    }
    records
});

/// A file of real records, changed a little here and there.
fn file(rng: &mut StdRng) -> Vec<u8> {
    let mut parts: Vec<Vec<u8>> = (0..rng.random_range(0..25))
        .map(|_| {
            let which = rng.random_range(0..RECORDS.len());
            // Every second is a short one.
            let which = if rng.random_bool(0.1) {
                which
            } else {
                which | 1
            };
            RECORDS[which].text.clone().into_bytes()
        })
        .collect();
    // Few of them: else nothing would ever be published.
    for _ in 0..rng.random_range(0..4) {
        if let Some(at) = pick(rng, parts.len()) {
            change(rng, &mut parts[at]);
        }
    }
    let mut file = b"[".to_vec();
    file.extend(parts.join(&b","[..]));
    file.push(b']');
    if rng.random_bool(0.3) {
        change(rng, &mut file);
    }
    if rng.random_bool(0.05) {
        file.splice(0..0, *b"\xef\xbb\xbf");
    }
    file
}

fn pick(rng: &mut StdRng, length: usize) -> Option<usize> {
    (length > 0).then(|| rng.random_range(0..length))
}

/// One change.
fn change(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    let Some(at) = pick(rng, bytes.len()) else {
        return;
    };
    let more = rng.random_range(0..600).min(bytes.len() - at);
    match rng.random_range(0..13) {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 1 << rng.random_range(0..8),
        2 => drop(bytes.drain(at..at + more)),
        3 => {
            let slice = bytes[at..at + more].to_vec();
            let to = rng.random_range(0..bytes.len());
            bytes.splice(to..to, slice);
        }
        4 | 5 => {
            let junk = JUNK[rng.random_range(0..JUNK.len())];
            bytes.splice(at..at, junk.iter().copied());
        }
        // The same within a text.
        6 | 7 => {
            let junk = JUNK[rng.random_range(0..JUNK.len())];
            let text = next(bytes, at, b": \"") + 3;
            insert(bytes, text, junk);
        }
        8 => {
            let bracket = bytes[at..].iter().position(|byte| b"[]{}".contains(byte));
            if let Some(bracket) = bracket {
                bytes.remove(at + bracket);
            }
        }
        9 => {
            let digit = bytes[at..].iter().position(u8::is_ascii_digit);
            if let Some(digit) = digit.map(|digit| at + digit) {
                let long = "7".repeat(rng.random_range(300..330));
                let which = rng.random_range(0..=NUMBERS.len());
                let number = NUMBERS.get(which).copied().unwrap_or(&long);
                bytes.splice(digit..=digit, number.bytes());
            }
        }
        10 => {
            let length = rng.random_range(200..2 * LONG);
            let text = next(bytes, at, b": \"") + 3;
            insert(bytes, text, "é".repeat(length / 2).as_bytes());
        }
        11 => {
            let long = "x".repeat(rng.random_range(200..400));
            let uid = next(bytes, 0, b"\"uid\": \"prowler-") + 8;
            insert(bytes, uid, long.as_bytes());
        }
        _ => {
            let depth = rng.random_range(1..300);
            let value = next(bytes, at, b": ") + 2;
            let deep = "[".repeat(depth) + &"]".repeat(depth) + ",\"x\": ";
            insert(bytes, value, deep.as_bytes());
        }
    }
}

/// Where these bytes stand next.
fn next(bytes: &[u8], from: usize, wanted: &[u8]) -> usize {
    let found = bytes[from..]
        .windows(wanted.len())
        .position(|window| window == wanted);
    found.map_or(bytes.len(), |at| from + at)
}

fn insert(bytes: &mut Vec<u8>, at: usize, what: &[u8]) {
    let at = at.min(bytes.len());
    bytes.splice(at..at, what.iter().copied());
}

/// What the naive reader says of a whole array: how many elements it has, how many of them are
/// surely findings of the account, and how many surely none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Naive {
    pub records: u64,
    pub good: u64,
    pub bad: u64,
}

/// Reads a file of an account of AWS, or of a cluster; nothing if it is no array of JSON values.
pub fn read(file: &[u8], cluster: bool, max_record: usize) -> Option<Naive> {
    // What no text may hold becomes one character that none of these files holds otherwise.
    let odd = |c: char| c < ' ' && !matches!(c, '\n' | '\r' | '\t');
    let text = String::from_utf8_lossy(file).replace(odd, "\u{fffd}");
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let elements = serde_json::from_str::<Vec<&RawValue>>(text).ok()?;
    let mut naive = Naive {
        records: elements.len() as u64,
        good: 0,
        bad: 0,
    };
    for element in elements {
        let known = RECORDS.iter().find(|record| record.text == element.get());
        match known {
            // Records of a cluster name no account of AWS, and are taken for the Provider's.
            Some(record) if record.of_cluster || !cluster => naive.good += 1,
            Some(_) => naive.bad += 1,
            None if is_bad(element.get(), max_record) => naive.bad += 1,
            None => {}
        }
    }
    Some(naive)
}

fn is_bad(record: &str, max_record: usize) -> bool {
    if !record.starts_with('{') || record.contains('\u{fffd}') || record.len() > max_record {
        return true;
    }
    match serde_json::from_str::<Value>(record) {
        Ok(value) => holds_nul(&value),
        // Deeper than this reader goes: where nobody looks, it does no harm.
        Err(error) => !error.to_string().contains("recursion limit"),
    }
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(list) => list.iter().any(holds_nul),
        Value::Object(map) => map
            .iter()
            .any(|(key, value)| key.contains('\0') || holds_nul(value)),
        _ => false,
    }
}
