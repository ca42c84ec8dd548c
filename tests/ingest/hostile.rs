//! Senders that are slow, break off, come all at once, are not who they say or send anything at
//! all: the server keeps its bounds, serves the others, and is afterwards as it was before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use prowler_operator::domain::clock::{Clock as _, SystemClock};
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::site::{Running, Site, within};
use crate::support::apiserver::ApiServer;
use crate::support::ocsf::{file, record};
use crate::world::World;

/// A request of which only the head is sent.
async fn begun(site: &Site, token: &str, length: usize) -> TlsStream<TcpStream> {
    let mut stream = site.connect().await.unwrap();
    let head = format!(
        "POST /v1/upload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

async fn receiving(site: &Site, number: usize) {
    within(20, "bodies to be received", || async {
        let (_, metrics) = site.health("/metrics").await?;
        metrics
            .contains(&format!("ingest_receiving {number}\n"))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_sender_of_single_bytes_loses_its_place_to_the_next() {
    let settings = [("IDLE_SECONDS", "1"), ("MAX_UPLOADS", "1")];
    let site = Site::with(World::new().await, &settings).await;
    let running = site.all_running(2).await;
    let slow = begun(&site, &running[0].token, 1_000_000).await;
    receiving(&site, 1).await;
    let (mut reader, mut writer) = tokio::io::split(slow);
    // Never silent for long, and never done.
    let sending = tokio::spawn(async move {
        while writer.write_all(b" ").await.is_ok() && writer.flush().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let findings = file(&[record("c", "a")]);
    let uploaded = site.upload(&running[1].token, Some(&findings)).await;
    assert_eq!(uploaded.code, 0, "{}", uploaded.left);
    let mut answer = vec![0; 1000];
    let read = reader.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    sending.abort();
    // It is not held against the scan.
    let state = site.world.state(&running[0].attempt).await;
    assert_eq!(state.0, "executing");
    assert_eq!(site.upload(&running[0].token, Some(b"[]")).await.code, 0);
}

#[tokio::test]
async fn who_is_silent_before_its_handshake_or_after_an_answer_is_let_go() {
    let site = Site::with(World::new().await, &[("IDLE_SECONDS", "1")]).await;
    site.calm().await;
    let descriptors = site.descriptors();
    let mut shaken = site.connect().await.unwrap();
    let request = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";
    shaken.write_all(request).await.unwrap();
    let silent = [shaken.get_ref().0.peer_addr().unwrap(); 2].map(TcpStream::connect);
    let silent = futures::future::try_join_all(silent).await.unwrap();
    let ends = async {
        let mut answer = Vec::new();
        // An end without a farewell is one too.
        let _ = shaken.read_to_end(&mut answer).await;
        assert!(answer.starts_with(b"HTTP/1.1 404"));
        for mut stream in silent {
            let _ = stream.read_to_end(&mut answer).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), ends)
        .await
        .unwrap();
    within(20, "the descriptors to be closed", || async {
        (site.descriptors() <= descriptors).then_some(())
    })
    .await;
}

#[tokio::test]
async fn connections_reset_at_each_64_kib_leave_nothing_behind() {
    let site = Site::new().await;
    let running = site.all_running(2).await;
    let findings = file(&[record("c", "a")]);
    // What the first upload opens for good is open.
    assert_eq!(
        site.upload(&running[1].token, Some(&findings)).await.code,
        0
    );
    site.calm().await;
    let descriptors = site.descriptors();
    let body = vec![b' '; 1 << 20];
    for sent in (0..=body.len()).step_by(64 * 1024) {
        let mut stream = begun(&site, &running[0].token, body.len() + 1).await;
        stream.write_all(&body[..sent]).await.unwrap();
        stream.flush().await.unwrap();
        if sent > 0 {
            receiving(&site, 1).await;
        }
        stream.get_ref().0.set_zero_linger().unwrap();
        drop(stream);
        site.calm().await;
    }
    within(20, "the descriptors to be closed", || async {
        (site.descriptors() <= descriptors).then_some(())
    })
    .await;
    assert_eq!(site.spooled_files(), 0);
    let state = site.world.state(&running[0].attempt).await;
    assert_eq!(state.0, "executing");
    assert_eq!(site.world.count("findings").await, 1);
    assert_eq!(
        site.upload(&running[0].token, Some(&findings)).await.code,
        0
    );
}

#[tokio::test]
async fn an_attempt_takes_one_place_however_often_it_asks() {
    let site = Site::with(World::new().await, &[("MAX_UPLOADS", "2")]).await;
    let running = site.all_running(2).await;
    let held = begun(&site, &running[0].token, 1000).await;
    receiving(&site, 1).await;
    for _ in 0..5 {
        let (status, after, answer) = site.send(&running[0].token, b"[]").await;
        assert_eq!((status, &answer["reason"]), (503, &json!("UploadRunning")));
        assert!(after.is_some());
    }
    assert_eq!(site.send(&running[1].token, b"[]").await.0, 200);
    drop(held);
    within(20, "the place to be free", || async {
        (site.send(&running[0].token, b"[]").await.0 == 200).then_some(())
    })
    .await;
}

/// Sends until it is published: how often it was asked to come again. Comes earlier than asked to.
async fn insist(site: &Site, running: &Running, body: &[u8]) -> u32 {
    let bearer = format!("Bearer {}", running.token);
    for refused in 0.. {
        let headers = [("authorization", bearer.as_str())];
        let (status, after, answer) = site.post(&headers, body).await;
        if status == 200 {
            return refused;
        }
        assert_eq!(status, 503, "{answer}");
        assert!(after.is_some_and(|after| after > 0), "{answer}");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    unreachable!()
}

#[tokio::test]
async fn two_hundred_uploads_at_once_all_end_well_within_the_bounds() {
    const SPOOL: u64 = 400_000;
    let settings = [
        ("MAX_UPLOADS", "16"),
        ("MAX_PUBLICATIONS", "1"),
        ("MAX_SPOOL_BYTES", "400000"),
        ("MAX_UPLOAD_BYTES", "150000"),
    ];
    let site = Site::with(World::new().await, &settings).await;
    let running = site.all_running(200).await;
    let body = format!("[{}]", " ".repeat(30_000)).into_bytes();
    let begun = std::time::Instant::now();
    let most = AtomicU64::new(0);
    let uploads = futures::future::join_all(running.iter().map(|one| insist(&site, one, &body)));
    let watch = async {
        loop {
            if let Some((_, metrics)) = site.health("/metrics").await {
                let name = "prowler_operator_ingest_spool_bytes";
                let used = crate::support::metrics::value(&metrics, name).unwrap_or_default();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "bytes"
                )]
                most.fetch_max(used as u64, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let refused = tokio::select! {
        refused = uploads => refused,
        () = watch => unreachable!(),
    };
    let most = most.into_inner();
    println!(
        "{:?}; refused {} times, one at most {} times; {most} bytes spooled at most",
        begun.elapsed(),
        refused.iter().sum::<u32>(),
        refused.iter().max().unwrap()
    );
    assert!(refused.iter().any(|times| *times > 0));
    assert!(most > 0 && most <= SPOOL, "{most}");
    let done = site.world.count("scans where state = 'completed'").await;
    assert_eq!(done, 200);
    site.calm().await;
    assert_eq!(site.spooled_files(), 0);
}

#[tokio::test]
async fn a_pod_of_an_attempt_that_is_over_is_refused_and_that_of_the_present_one_is_not() {
    let site = Site::new().await;
    let old = site.running().await;
    let scan = old.attempt.scan;
    let job = site.job(scan, 2).await;
    let name = job.metadata.name.clone().unwrap();
    let uid = job.metadata.uid.clone().unwrap();
    site.world
        .admin(&format!(
            "update scans set attempt = 2, job_uid = '{uid}', job_name = '{name}' where id = '{scan}'"
        ))
        .await;
    let pod = site.pod(&job, site.labels(scan, 2)).await;
    let present = site.token(&pod, "prowler-operator").await;
    // It says that it is of the present one.
    let owners = json!([{"apiVersion": "batch/v1", "kind": "Job", "controller": true,
        "name": old.attempt.job_name.name, "uid": old.attempt.job.to_string()}]);
    let labels = site.labels(scan, 2);
    let pod = site
        .pod_owned_by(&site.world.namespace, owners, labels)
        .await;
    let disguised = site.token(&pod, "prowler-operator").await;
    let findings = file(&[record("c", "a")]);
    for published in [false, true] {
        for (token, statuses) in [(&old.token, &[409][..]), (&disguised, &[403, 409])] {
            let (status, after, answer) = site.send(token, &findings).await;
            assert!(statuses.contains(&status), "{published} {answer}");
            assert_eq!(after, None);
        }
        if !published {
            assert_eq!(site.world.stored().await, []);
            assert_eq!(site.send(&present, &findings).await.0, 200);
        }
    }
    assert_eq!(site.world.count("findings").await, 1);
}

/// A token as the API server signs them, with other times.
fn signed_again(token: &str, key: &KeyPair, ends_in: i64) -> String {
    let parts: Vec<_> = token.split('.').collect();
    let claims = BASE64.decode(parts[1]).unwrap();
    let mut claims: Value = serde_json::from_slice(&claims).unwrap();
    let now = SystemClock.now().as_second();
    claims["iat"] = json!(now - 7200);
    claims["nbf"] = json!(now - 7200);
    claims["exp"] = json!(now + ends_in);
    let signed = format!("{}.{}", parts[0], BASE64.encode(claims.to_string()));
    let signature = raw(&key.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{}", BASE64.encode(signature))
}

/// The two numbers of a signature, out of their ASN.1.
fn raw(der: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    let mut rest = &der[2..];
    while let [2, length, more @ ..] = rest {
        let (number, after) = more.split_at(usize::from(*length));
        let number = &number[number.len().saturating_sub(32)..];
        raw.extend(std::iter::repeat_n(0, 32 - number.len()));
        raw.extend(number);
        rest = after;
    }
    raw
}

#[tokio::test]
async fn a_token_whose_time_is_up_is_refused() {
    let site = Site::new().await;
    let running = site.running().await;
    let key = KeyPair::from_pem(&ApiServer::shared().await.token_key()).unwrap();
    let findings = file(&[record("c", "a")]);
    // The API server looks with some leeway.
    for (ends_in, status) in [(-3600, 401), (-60, 401), (600, 200)] {
        let token = signed_again(&running.token, &key, ends_in);
        let (found, _, answer) = site.send(&token, &findings).await;
        assert_eq!(found, status, "{ends_in} {answer}");
        let stored = site.world.count("findings").await;
        assert_eq!(stored, i64::from(status == 200));
    }
    // A key of somebody else opens nothing.
    let token = signed_again(&running.token, &KeyPair::generate().unwrap(), 600);
    assert_eq!(site.send(&token, &findings).await.0, 401);
}
