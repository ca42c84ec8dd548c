//! Requests as nobody should send them, thousands: methods, paths, headers, tokens, lengths, chunks and
//! plain noise at random. `FUZZ_SEED` takes a run again.

use std::fmt::Write as _;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::site::{Site, within};
use crate::support::ocsf::{file, record};

const REQUESTS: usize = 10_000;
const CONNECTIONS: usize = 16;

/// One random request, and whether the connection can be used again after it.
fn request(rng: &mut StdRng, tokens: &[&str]) -> (Vec<u8>, bool) {
    let pick = |rng: &mut StdRng, from: &[&str]| from[rng.random_range(0..from.len())].to_owned();
    let noise = |rng: &mut StdRng, most: usize| -> Vec<u8> {
        let length = rng.random_range(0..most);
        (0..length).map(|_| rng.random()).collect()
    };
    if rng.random_bool(0.03) {
        let mut bytes = noise(rng, 600);
        if rng.random_bool(0.3) {
            bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        }
        return (bytes, false);
    }
    let method = pick(
        rng,
        &[
            "POST", "POST", "POST", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW",
        ],
    );
    let path = pick(
        rng,
        &[
            "/v1/upload",
            "/v1/upload",
            "/v1/upload",
            "/v1/upload?x=%00",
            "/v1/upload/",
            "/",
            "/metrics",
            "/readyz",
            "//v1/../v1/upload",
            "/v1/%75pload",
            "/..%2f..%2fetc/passwd",
            "*",
        ],
    );
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    let mut broken = false;
    match rng.random_range(0..20) {
        0 => head += "Authorization: Bearer \r\n",
        1 => head += "Authorization: Basic dXNlcjpwYXNz\r\n",
        2 => head += "Authorization: Bearer a.b.c\r\n",
        3 | 4 => write!(head, "Authorization: Bearer {}\r\n", pick(rng, tokens)).unwrap(),
        _ => {}
    }
    if rng.random_bool(0.3) {
        let encoding = pick(
            rng,
            &["zstd", "gzip", "identity", "br", "", "zstd, gzip", "\u{e9}"],
        );
        write!(head, "Content-Encoding: {encoding}\r\n").unwrap();
    }
    for n in 0..rng.random_range(0..4) {
        let value = "v".repeat(rng.random_range(0..300));
        write!(head, "X-{n}: {value}\r\n").unwrap();
    }
    let body = noise(rng, 3000);
    let mut bytes;
    match rng.random_range(0..10) {
        // In chunks, well or badly made.
        0..3 => {
            head += "Transfer-Encoding: chunked\r\n\r\n";
            bytes = head.into_bytes();
            for part in body.chunks(700) {
                bytes.extend(format!("{:x}\r\n", part.len()).bytes());
                bytes.extend(part);
                bytes.extend(b"\r\n");
            }
            let end = pick(
                rng,
                &[
                    "0\r\n\r\n",
                    "0\r\n\r\n",
                    "zz\r\n",
                    "fffffffffffffffff\r\n",
                    "0\r\nX: y\r\n\r\n",
                ],
            );
            broken = !end.starts_with('0');
            bytes.extend(end.bytes());
        }
        // A length that is not the body's, or none.
        3 => {
            let length = pick(
                rng,
                &["99999999", "-1", "18446744073709551616", "1, 2", "x"],
            );
            bytes = format!("{head}Content-Length: {length}\r\n\r\n").into_bytes();
            bytes.extend(body);
            broken = true;
        }
        4 => {
            bytes = format!("{head}Broken\u{0} header\r\n\r\n").into_bytes();
            broken = true;
        }
        _ => {
            bytes = format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
            bytes.extend(body);
        }
    }
    (bytes, !broken && method != "HEAD")
}

/// Reads one answer: its status and whether it says when to come again. None where none came.
async fn answer(stream: &mut TlsStream<TcpStream>) -> Option<(u16, bool, bool)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
            let header = |name: &str| {
                let line = head.lines().find_map(|line| line.strip_prefix(name))?;
                Some(line.trim().to_owned())
            };
            let length: usize = header("content-length:").map_or(0, |text| text.parse().unwrap());
            while bytes.len() < at + 4 + length {
                if stream.read_buf(&mut bytes).await.ok()? == 0 {
                    break;
                }
            }
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            let closes = header("connection:").is_some_and(|value| value == "close");
            return Some((status, header("retry-after:").is_some(), closes));
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// Sends so many random requests; how many were answered.
async fn pester(site: &Site, seed: u64, tokens: &[&str]) -> usize {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut answered = 0;
    let mut open = None;
    for _ in 0..REQUESTS / CONNECTIONS {
        let (bytes, whole) = request(&mut rng, tokens);
        let mut stream = match open.take() {
            Some(stream) => stream,
            None => site.connect().await.unwrap(),
        };
        // The server may have closed on what it has read so far.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        if !whole {
            let _ = stream.shutdown().await;
        }
        let Some((status, again, closes)) = answer(&mut stream).await else {
            continue;
        };
        answered += 1;
        assert!(
            status < 500 || status == 503 && again,
            "{status} FUZZ_SEED={seed}: {}",
            String::from_utf8_lossy(&bytes)
        );
        if whole && !closes {
            open = Some(stream);
        }
    }
    answered
}

#[tokio::test]
async fn ten_thousand_random_requests_break_nothing_and_leave_nothing() {
    let site = Site::new().await;
    let running = site.all_running(3).await;
    let findings = file(&[record("c", "a")]);
    let cancelled = &running[0];
    site.world
        .admin(&format!(
            "update scans set state = 'cancelled' where id = '{}'",
            cancelled.attempt.scan
        ))
        .await;
    assert_eq!(
        site.upload(&running[1].token, Some(&findings)).await.code,
        0
    );
    let tokens: Vec<_> = running[..2].iter().map(|one| &*one.token).collect();
    // As many connections as later, so that all that is kept for reuse is there.
    let given = std::env::var("FUZZ_SEED").ok();
    let seed: u64 = given.map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("FUZZ_SEED={seed}");
    let warm = (0..CONNECTIONS).map(|_| site.send(&running[1].token, b"[]"));
    futures::future::join_all(warm).await;
    site.calm().await;
    let (memory, descriptors) = (site.memory("VmRSS:"), site.descriptors());

    let begun = std::time::Instant::now();
    let all = (0..CONNECTIONS as u64).map(|n| pester(&site, seed.wrapping_add(n), &tokens));
    let answered: usize = futures::future::join_all(all).await.into_iter().sum();
    site.calm().await;
    let after = site.memory("VmRSS:");
    println!(
        "{REQUESTS} requests, {answered} answered, in {:?}; {memory} MiB before, {after} after",
        begun.elapsed()
    );
    assert!(answered > REQUESTS / 2, "{answered}");
    within(60, "the descriptors to be closed", || async {
        (site.descriptors() <= descriptors).then_some(())
    })
    .await;
    assert!(after <= memory + 32, "{memory} {after}");
    assert_eq!(site.spooled_files(), 0);
    assert!(!site.log().contains("panicked"));
    assert_eq!(
        site.upload(&running[2].token, Some(&findings)).await.code,
        0
    );
}
