//! What the server holds of a file does not grow with it: a sample in every run, and 2 GB with `SOAK=1`.

use crate::site::Site;
use crate::support::ocsf::{Shape, file, record, write_large};

/// MiB over idle that publishing may take, beside [`PER_FINDING`].
const OVER_IDLE: u64 = 64;
/// Bytes for each finding that the account then has: what a next scan compares with.
const PER_FINDING: u64 = 128;

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
    let soak = std::env::var_os("SOAK").is_some();
    let findings = if soak { 280_000 } else { 18_000 };
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
    let bearer = format!("Bearer {}", running.token);
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-encoding", "zstd"),
    ];
    let (status, _, answer) = site.post(&headers, &body).await;
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
