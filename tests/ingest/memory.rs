//! What the server and `upload` hold of a file does not grow with it, nor with the number of files:
//! a sample in every run, and 2 GB with `SOAK=1`.

use std::io::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;

use crate::site::{Site, memory};
use crate::support::ocsf::{ACCOUNT, Shape, file, record, write_large};
use crate::world::World;

/// MiB that `upload` may have resident, and how many of them are the program itself as it is
/// released: in tests it is not optimised, and twice as large.
const UPLOAD: u64 = 32;
const PROGRAM: u64 = 16;
/// Scans that end at one time: as many as run at once unless the chart is told otherwise.
const AT_ONCE: usize = 20;
/// MiB over idle that publishing may take, beside [`PER_FINDING`].
const OVER_IDLE: u64 = 64;
/// Bytes for each finding that the account then has: what a next scan compares with.
const PER_FINDING: u64 = 128;

/// Of a large file.
fn findings() -> usize {
    if std::env::var_os("SOAK").is_some() {
        280_000
    } else {
        18_000
    }
}

/// Counts what goes through it.
struct Counting<W>(W, u64);

impl<W: std::io::Write> std::io::Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1 += bytes.len() as u64;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[tokio::test]
async fn memory_does_not_grow_with_the_file() {
    let findings = findings();
    let site = Site::new().await;
    let small = site.running().await;
    let (status, ..) = site.send(&small.token, &file(&[record("c", "a")])).await;
    assert_eq!(status, 200);
    let idle = site.memory("VmRSS:");

    let encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let mut out = Counting(encoder, 0);
    write_large(&mut out, Shape::of(findings), 0).unwrap();
    let (body, bytes) = (out.0.finish().unwrap(), out.1);
    let running = site.running().await;
    let (status, _, answer) = site.send_compressed(&running.token, &body).await;
    assert_eq!(status, 200, "{answer}");
    let peak = site.memory("VmHWM:");
    println!(
        "{} MB, {findings} findings: {idle} MiB idle, {peak} MiB at most",
        bytes / 1_000_000
    );
    let all = site.world.count("findings").await;
    assert_eq!(all, i64::try_from(findings).unwrap() + 1);
    let known = PER_FINDING * findings as u64 / (1 << 20);
    assert!(peak <= idle + OVER_IDLE + known, "{idle} {peak}");
}

#[tokio::test]
async fn an_upload_holds_little_of_its_file() {
    let site = Site::new().await;
    let running = site.running().await;
    let (mut command, place) = site.upload_command(&running.token, None);
    let path = place.join("scan.ocsf.json");
    let shape = Shape::of(findings());
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    write_large(&mut file, shape, 0).unwrap();
    drop(file);
    // The file in its time, and then the answer: the server publishes first.
    command.env("UPLOAD_DEADLINE_SECONDS", "600");
    let mut process = command.spawn().unwrap();
    let mut most = 0;
    let status = loop {
        if let Some(status) = process.try_wait().unwrap() {
            break status;
        }
        let of = |field| memory(process.id(), field).unwrap_or_default();
        most = most.max(of("VmHWM:").saturating_sub(of("RssFile:")));
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let log = std::fs::read_to_string(place.join("log")).unwrap();
    assert!(status.success(), "{log}");
    let megabytes = std::fs::metadata(&path).unwrap().len() / 1_000_000;
    println!("{megabytes} MB sent, {most} MiB besides the program");
    let all = site.world.count("findings").await;
    assert_eq!(all, i64::try_from(shape.findings).unwrap());
    assert!((1..=UPLOAD - PROGRAM).contains(&most), "{most} MiB");
}

#[tokio::test]
async fn twenty_scans_that_end_at_once_are_published_within_the_bounds() {
    const FINDINGS: usize = 500;
    const POOL: i64 = 3;
    let settings = [("DATABASE_POOL_SIZE", "3"), ("MAX_PUBLICATIONS", "2")];
    let mut site = Site::with(World::new().await, &settings).await;
    let mut out = Vec::new();
    write_large(&mut out, Shape::of(FINDINGS), 0).unwrap();
    let template = String::from_utf8(out).unwrap();
    let mut scans = Vec::new();
    for number in 0..AT_ONCE {
        let account = format!("{number:012}");
        site.world.go_on_with("aws", &account).await;
        let running = site.running().await;
        let file = template.replace(ACCOUNT, &account).into_bytes();
        scans.push((running, file));
    }
    let idle = site.memory("VmRSS:");

    let (most, widest) = (AtomicI64::new(0), AtomicI64::new(0));
    let uploads = join_all(
        scans
            .iter()
            .map(|(running, file)| site.upload(&running.token, Some(file))),
    );
    let watching = async {
        loop {
            let server = "pg_stat_activity
                 where application_name like 'server:%' and datname = current_database()";
            most.fetch_max(site.world.count(server).await, Ordering::Relaxed);
            let (_, metrics) = site.health("/metrics").await.unwrap();
            let publishing =
                crate::support::metrics::value(&metrics, "prowler_operator_ingest_publishing");
            #[expect(clippy::cast_possible_truncation, reason = "a small number")]
            widest.fetch_max(publishing.unwrap() as i64, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let uploaded = tokio::select! {
        uploaded = uploads => uploaded,
        () = watching => unreachable!(),
    };
    for one in &uploaded {
        assert_eq!(one.code, 0, "{}", one.left);
    }
    for (running, _) in &scans {
        let here = format!("findings where scan_id = '{}'", running.attempt.scan);
        let all = site.world.count(&here).await;
        assert_eq!(all, i64::try_from(FINDINGS).unwrap());
    }
    let (most, widest) = (most.into_inner(), widest.into_inner());
    let peak = site.memory("VmHWM:");
    println!(
        "{AT_ONCE} scans at once: {widest} published at once, {most} connections, \
         {idle} MiB idle, {peak} MiB at most"
    );
    assert_eq!(widest, 2, "published at once");
    assert!((1..=POOL).contains(&most), "{most} connections");
    let known = PER_FINDING * (FINDINGS * AT_ONCE) as u64 / (1 << 20);
    assert!(peak <= idle + OVER_IDLE + known, "{idle} {peak}");
}

/// A file of so many bytes without a finding in it, compressed.
fn blank(bytes: u64) -> Vec<u8> {
    let mut out = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let part = vec![b' '; 64 * 1024];
    let mut left = bytes - 2;
    out.write_all(b"[").unwrap();
    while left > 0 {
        let more = left.min(part.len() as u64);
        out.write_all(&part[..usize::try_from(more).unwrap()])
            .unwrap();
        left -= more;
    }
    out.write_all(b"]").unwrap();
    out.finish().unwrap()
}

#[tokio::test]
async fn the_bound_of_a_file_holds_to_the_byte() {
    // Soaking, with the bound that everybody has: 4 GiB.
    let (bound, settings) = if std::env::var_os("SOAK").is_some() {
        (4 << 30, vec![])
    } else {
        (32 << 20, vec![("MAX_FILE_BYTES", "32Mi")])
    };
    let site = Site::with(World::new().await, &settings).await;
    for (bytes, status, reason) in [
        (bound - 1, 200, "Completed"),
        (bound, 413, "OutputTooLarge"),
    ] {
        let running = site.running().await;
        let body = blank(bytes);
        let (answered, _, answer) = site.send_compressed(&running.token, &body).await;
        assert_eq!((answered, &answer["reason"]), (status, &json!(reason)));
        let stored = site.world.state(&running.attempt).await.1;
        assert_eq!(stored.as_deref(), Some(reason), "{bytes}");
    }
    println!("{bound} bytes: {} MiB at most", site.memory("VmHWM:"));
}
