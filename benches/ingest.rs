//! How fast a file of findings is published, and what memory that takes, beside a binary COPY
//! of the very same rows.
//!
//! `cargo bench --bench ingest` (set FINDINGS=20000 for a quick look). Ours is the real path: a
//! process of its own takes a spooled file and publishes it as `prowler_user`, bound by row
//! security. The reference loads the rows that came of it, encoded before, into tables with the
//! same indexes and months, without row security. Both take turns in one run, each after a
//! checkpoint.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    missing_docs
)]

#[path = "ingest/account.rs"]
mod account;
#[path = "ingest/bare.rs"]
mod bare;
#[path = "../tests/support/db.rs"]
mod db;
#[path = "../tests/support/ocsf.rs"]
mod ocsf;
#[path = "ingest/publisher.rs"]
mod publisher;
#[path = "ingest/readers.rs"]
mod readers;

use std::path::{Path, PathBuf};

use prowler_operator::domain::clock::{Clock as _, SystemClock};
use prowler_operator::store::partitions;
use prowler_operator::store::publication::Part;
use sqlx::PgConnection;

use account::Account;
use bare::Bare;
use ocsf::Shape;
use publisher::{Order, Published};
use readers::{Pages, Reader};

const ROUNDS: usize = 3;
/// Tenants whose data is there before anything is measured, each with two scans.
const NEIGHBOURS: usize = 10;
/// What the budget allows for each finding that is known of an account.
const BYTES_PER_KNOWN: f64 = 128.0;
const KIB_PER_MIB: f64 = 1024.0;
const SCANS: [&str; 2] = ["first scan", "second scan"];

fn main() {
    publisher::main(run());
}

/// Seconds of one scan of one round.
#[derive(Clone, Copy)]
struct Pair {
    ours: f64,
    bare: f64,
}

async fn run() {
    let findings = publisher::findings(200_000);
    let dir = tempfile::tempdir().unwrap();
    eprintln!("writing files of {findings} findings");
    let large = Files::write(dir.path(), Shape::of(findings));
    let small = Files::write(dir.path(), Shape::of(findings.div_ceil(10)));

    let database = db::Db::durable().await;
    partitions::ensure_months(&database.admin().await, SystemClock.now(), 1)
        .await
        .unwrap();
    let mut conn = database.superuser_conn().await;
    eprintln!("publishing for {NEIGHBOURS} neighbours");
    let mut memory_small = [Vec::new(), Vec::new()];
    for _ in 0..NEIGHBOURS {
        let account = Account::new(&mut conn).await;
        for (scan, published) in memory_small.iter_mut().enumerate() {
            let (_, small) = small.publish(scan, &account, &database, &mut conn).await;
            published.push(small);
        }
    }
    let bare = Bare::new(&mut conn).await;

    let mut pairs = [Vec::new(), Vec::new()];
    let mut memory_large = [Vec::new(), Vec::new()];
    for round in 1..=ROUNDS {
        let account = Account::new(&mut conn).await;
        for scan in 0..2 {
            checkpoint(&mut conn).await;
            let (attempt, published) = large.publish(scan, &account, &database, &mut conn).await;
            let rows = bare::rows(&mut conn, &attempt, scan).await;
            checkpoint(&mut conn).await;
            let seconds = bare.load(&mut conn, rows, &attempt).await;
            eprintln!(
                "round {round}, {}: {:.2} s, COPY {seconds:.2} s, ratio {:.2}",
                SCANS[scan],
                published.seconds,
                seconds / published.seconds
            );
            pairs[scan].push(Pair {
                ours: published.seconds,
                bare: seconds,
            });
            memory_large[scan].push(published);
        }
    }
    let read = beside(&large, &database, &mut conn).await;
    print_speed(&large, &pairs);
    print_profile(&memory_large);
    print_memory([&small, &large], [&memory_small, &memory_large]);
    print_readers(read);
}

/// Pages that are read before and while a second scan is published: of its tenant, and of another.
async fn beside(large: &Files, database: &db::Db, conn: &mut PgConnection) -> [[Pages; 2]; 2] {
    let [own, other] = [Account::new(conn).await, Account::new(conn).await];
    for account in [&own, &other] {
        large.publish(0, account, database, conn).await;
    }
    checkpoint(conn).await;
    let url = database.user_url();
    let tenants = [own.tenant(), other.tenant()];
    let mut before = Vec::new();
    for tenant in tenants {
        before.push(Reader::alone(&url, tenant).await);
    }
    let readers = tenants.map(|tenant| Reader::start(&url, tenant));
    large.publish(1, &own, database, conn).await;
    let [own, other] = readers;
    let during = [own.stop().await, other.stop().await];
    let mut before = before.into_iter();
    during.map(|during| [before.next().unwrap(), during])
}

/// The files of two scans of one account.
struct Files {
    shape: Shape,
    paths: [PathBuf; 2],
    /// Bytes of one, decompressed.
    bytes: u64,
}

impl Files {
    fn write(dir: &Path, shape: Shape) -> Self {
        let mut bytes = 0;
        let paths = [0, 1].map(|round| {
            let path = dir.join(format!("{}-{round}.zst", shape.findings));
            let file = std::fs::File::create(&path).unwrap();
            // As the upload compresses.
            let mut encoder = zstd::stream::write::Encoder::new(file, 3).unwrap();
            let mut counted = Counted {
                inner: &mut encoder,
                bytes: 0,
            };
            ocsf::write_large(&mut counted, shape, round).unwrap();
            bytes = counted.bytes;
            encoder.finish().unwrap();
            path
        });
        Self {
            shape,
            paths,
            bytes,
        }
    }

    /// Publishes one of the files as a scan of the account, and looks whether all of it is there.
    async fn publish(
        &self,
        scan: usize,
        account: &Account,
        database: &db::Db,
        conn: &mut PgConnection,
    ) -> (prowler_operator::store::publication::Attempt, Published) {
        let attempt = account.scan(conn).await;
        let order = Order {
            database: database.user_url(),
            attempt: attempt.clone(),
            file: self.paths[scan].clone(),
        };
        // Readers go on meanwhile.
        let published = tokio::task::spawn_blocking(move || order.hand_over())
            .await
            .unwrap();
        account
            .assert_published(conn, &attempt, self.shape, scan)
            .await;
        (attempt, published)
    }
}

struct Counted<'a, W> {
    inner: &'a mut W,
    bytes: u64,
}

impl<W: std::io::Write> std::io::Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Both sides begin with clean pages, and pay alike for the first change of each.
async fn checkpoint(conn: &mut PgConnection) {
    db::run(conn, "checkpoint").await;
}

fn print_speed(files: &Files, pairs: &[Vec<Pair>; 2]) {
    let Shape {
        findings,
        checks,
        regions,
        resources,
    } = files.shape;
    println!(
        "\n### Ingest ({findings} findings of {:.1} kB, {checks} checks, {regions} regions, {resources} resources)\n",
        files.bytes as f64 / 1000.0 / findings as f64
    );
    println!(
        "| median of {ROUNDS} | from file to published | binary COPY of the same rows | ratio (spread) | budget |"
    );
    println!("|---|---|---|---|---|");
    for (scan, budget) in [(0, 0.6), (1, 0.5)] {
        let of = |value: fn(&Pair) -> f64| Spread::of(pairs[scan].iter().map(value));
        let (ours, bare) = (of(|pair| pair.ours), of(|pair| pair.bare));
        let ratio = of(|pair| pair.bare / pair.ours);
        let rate = |seconds: f64| findings as f64 / seconds;
        println!(
            "| {} | {:.1} s ({:.0} findings/s) | {:.1} s ({:.0}/s) | **{:.2}** ({:.2}–{:.2}) | ≥ {budget} |",
            SCANS[scan],
            ours.median,
            rate(ours.median),
            bare.median,
            rate(bare.median),
            ratio.median,
            ratio.least,
            ratio.most,
        );
    }
}

/// Where the time goes: what the database does one after the other, and beside it the reading.
fn print_profile(published: &[Vec<Published>; 2]) {
    println!("\n| where the time goes | first scan | second scan |");
    println!("|---|---|---|");
    let row = |name: &str, seconds: &dyn Fn(&Published) -> f64| {
        let [first, second] =
            [0, 1].map(|scan| Spread::of(published[scan].iter().map(seconds)).median);
        println!("| {name} | {first:.2} s | {second:.2} s |");
    };
    for part in Part::ALL {
        row(meaning(part), &|published| published.parts[part as usize]);
    }
    row(
        "beside all of this: the file is decompressed, parsed, masked, compared, encoded",
        &|published| published.reading,
    );
}

fn meaning(part: Part) -> &'static str {
    match part {
        Part::Begin => "begin, look at the attempt, make temporary tables",
        Part::Past => "read what is known of the account",
        Part::Reading => "the database waits for the file",
        Part::Copy => "COPY into temporary tables",
        Part::Findings => "insert findings",
        Part::Mappings => "insert links to resources",
        Part::Resources => "write checks, resources, tags",
        Part::History => "write what the next scan compares with",
        Part::Commit => "complete the scan, commit",
    }
}

fn print_memory(files: [&Files; 2], published: [&[Vec<Published>; 2]; 2]) {
    let idle = Spread::of(published[1][0].iter().map(|p| p.idle as f64 / KIB_PER_MIB));
    println!(
        "\n| most memory over idle ({:.0} MiB) | {} findings | {} findings | grows by, for each finding | budget |",
        idle.median, files[0].shape.findings, files[1].shape.findings
    );
    println!("|---|---|---|---|---|");
    let more = (files[1].shape.findings - files[0].shape.findings) as f64;
    let allowed = 64.0 + BYTES_PER_KNOWN * files[1].shape.findings as f64 / 1024.0 / 1024.0;
    for (scan, name) in SCANS.into_iter().enumerate() {
        let [small, large] = published.map(|size| {
            Spread::of(
                size[scan]
                    .iter()
                    .map(|p| p.over_idle() as f64 / KIB_PER_MIB),
            )
        });
        println!(
            "| {name} | {:.0} MiB | **{:.0} MiB** | {:.0} bytes | ≤ 64 MiB and {BYTES_PER_KNOWN} bytes a finding: {allowed:.0} MiB |",
            small.most,
            large.most,
            (large.most - small.most) * 1024.0 * 1024.0 / more,
        );
    }
    println!(
        "\nThe large file has {:.2} GB. Rows of a second scan are findings, mappings and what the next scan compares with.",
        files[1].bytes as f64 / 1e9
    );
}

fn print_readers(read: [[Pages; 2]; 2]) {
    println!(
        "\n| pages of 50 findings with their resources | before: p50, p99, most (pages) | while a second scan is published | p99 grows by |"
    );
    println!("|---|---|---|---|");
    for (who, [mut before, mut during]) in
        ["of the same tenant", "of another"].into_iter().zip(read)
    {
        let show = |pages: &mut Pages| {
            format!(
                "{:.1}, {:.1}, {:.1} ms ({})",
                pages.quantile(0.5),
                pages.quantile(0.99),
                pages.quantile(1.0),
                pages.count()
            )
        };
        let grows = during.quantile(0.99) / before.quantile(0.99);
        println!(
            "| {who} | {} | {} | {grows:.1} × |",
            show(&mut before),
            show(&mut during)
        );
    }
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        Self {
            least: values[0],
            median: values[values.len() / 2],
            most: values[values.len() - 1],
        }
    }
}
