//! Everything that can fail between a pod and the commit: afterwards either nothing is stored
//! or everything is, once.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::site::{Running, Site, within, world_alone};
use crate::support::ocsf::{file, record};
use crate::world::World;

fn many(records: usize) -> Vec<u8> {
    let records: Vec<_> = (0..records).map(|n| record("c", &n.to_string())).collect();
    file(&records)
}

/// A request whose body is sent as far as `sent`.
async fn half(
    site: &Site,
    running: &Running,
    body: &[u8],
    sent: usize,
) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let mut stream = site.connect().await.unwrap();
    let head = format!(
        "POST /v1/upload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Encoding: zstd\r\nContent-Length: {}\r\n\r\n",
        running.token,
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body[..sent]).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// Waits until a publication runs.
async fn publication(site: &Site) {
    within(30, "a publication", || async {
        let (_, metrics) = site.health("/metrics").await?;
        metrics.contains("ingest_publishing 1").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_killed_in_the_middle_of_an_upload_leaves_nothing_and_the_next_takes_it() {
    let site = Site::new().await;
    let running = site.running().await;
    let file = many(3000);
    let body = zstd::encode_all(&file[..], 3).unwrap();
    let stream = half(&site, &running, &body, body.len() / 2).await;
    within(20, "half of the body to be spooled", || async {
        let (_, metrics) = site.health("/metrics").await?;
        metrics
            .contains(&format!("ingest_spool_bytes {}", body.len() / 2))
            .then_some(())
    })
    .await;
    site.kill();
    drop(stream);
    assert_eq!(site.world.stored().await, []);
    assert_eq!(site.spooled_files(), 0);

    // The pod tries on while nobody listens.
    let (mut command, place) = site.upload_command(&running.token, Some(&file));
    command.env("UPLOAD_TRY_SECONDS", "20");
    let restart = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        site.start();
    };
    let (uploaded, ()) = tokio::join!(site.finish_upload(command, place), restart);
    assert_eq!(uploaded.code, 0, "{}", uploaded.left);
    assert_eq!(site.world.count("findings").await, 3000);
}

#[tokio::test]
async fn a_server_killed_while_it_publishes_leaves_nothing() {
    let site = Site::new().await;
    let running = site.running().await;
    let file = many(30_000);
    let body = zstd::encode_all(&file[..], 3).unwrap();
    let stream = half(&site, &running, &body, body.len()).await;
    publication(&site).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    site.kill();
    drop(stream);
    assert_eq!(site.world.state(&running.attempt).await.0, "executing");
    assert_eq!(site.world.stored().await, []);
    site.start();
    site.wait_until_ready().await;
    assert_eq!(site.upload(&running.token, Some(&file)).await.code, 0);
    assert_eq!(site.world.count("findings").await, 30_000);
}

#[tokio::test]
async fn a_database_that_goes_away_is_waited_for() {
    let site = Site::with(world_alone().await, &[]).await;
    let running = site.running().await;
    let file = many(30_000);
    let server = site.world.db.server();
    let trouble = async {
        publication(&site).await;
        server.stop();
        within(20, "the server to notice", || async {
            let (status, text) = site.health("/readyz").await?;
            (status == 503).then_some(text)
        })
        .await;
        // Live all the time: a restart would cure nothing.
        assert_eq!(site.health("/livez").await.unwrap().0, 200);
        server.start_again().await;
    };
    let (uploaded, ()) = tokio::join!(site.upload(&running.token, Some(&file)), trouble);
    assert_eq!(uploaded.code, 0, "{}", uploaded.left);
    assert_eq!(site.world.count("findings").await, 30_000);
    assert_eq!(site.world.count("provider_finding_states").await, 30);
    site.wait_until_ready().await;
}

#[tokio::test]
async fn a_session_cut_while_publishing_is_tried_again() {
    let site = Site::new().await;
    let running = site.running().await;
    let file = many(20_000);
    let cut = async {
        let mut conn = site.world.db.superuser_conn().await;
        for _ in 0..3 {
            publication(&site).await;
            sqlx::query(
                "select pg_terminate_backend(pid) from pg_stat_activity
                 where application_name = 'server:default' and datname = current_database()
                   and state <> 'idle'",
            )
            .execute(&mut conn)
            .await
            .unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let (uploaded, ()) = tokio::join!(site.upload(&running.token, Some(&file)), cut);
    assert_eq!(uploaded.code, 0, "{}", uploaded.left);
    assert_eq!(site.world.count("findings").await, 20_000);
    assert_eq!(site.world.count("resources").await, 20_000);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_finds_its_findings_published() {
    let site = Site::new().await;
    let running = site.running().await;
    let file = many(5000);
    let body = zstd::encode_all(&file[..], 3).unwrap();
    let stream = half(&site, &running, &body, body.len()).await;
    publication(&site).await;
    drop(stream);
    within(30, "the findings to be published", || async {
        (site.world.state(&running.attempt).await.0 == "completed").then_some(())
    })
    .await;
    let uploaded = site.upload(&running.token, Some(&file)).await;
    assert_eq!(uploaded.code, 0);
    assert_eq!(site.world.count("findings").await, 5000);
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_body_publishes_nothing() {
    let site = Site::new().await;
    let running = site.running().await;
    let body = zstd::encode_all(&many(3000)[..], 3).unwrap();
    for part in [1, 2, 3] {
        drop(half(&site, &running, &body, body.len() * part / 4).await);
    }
    within(20, "the spool to be empty", || async {
        let (_, metrics) = site.health("/metrics").await?;
        let calm = metrics.contains("ingest_receiving 0") && metrics.contains("spool_bytes 0");
        calm.then_some(())
    })
    .await;
    assert_eq!(site.world.state(&running.attempt).await.0, "executing");
    assert_eq!(site.world.stored().await, []);
}

#[tokio::test]
async fn the_silent_and_the_slow_are_let_go() {
    let site = Site::with(World::new().await, &[("IDLE_SECONDS", "1")]).await;
    let running = site.running().await;
    let begun = Instant::now();
    // No handshake; no headers; half a header; half a body.
    let mut raw = site.connect().await.unwrap();
    raw.write_all(b"POST /v1/upload HTTP/1.1\r\nHost: lo")
        .await
        .unwrap();
    raw.flush().await.unwrap();
    let mut answer = Vec::new();
    let _ = raw.read_to_end(&mut answer).await;
    let mut slow = half(&site, &running, &[0; 100], 10).await;
    let mut answer = vec![0; 1000];
    let read = slow.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    // Sooner than either would be let go by default.
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(site.world.state(&running.attempt).await.0, "executing");
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_without_a_restart_and_a_broken_one_is_not() {
    let site = Site::new().await;
    let serial = async || {
        let stream = site.connect().await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let first = serial().await;
    std::fs::write(site.path("tls/tls.crt"), "no certificate").unwrap();
    within(20, "the server to notice", || async {
        site.log()
            .contains("the new certificate is not used")
            .then_some(())
    })
    .await;
    assert_eq!(serial().await, first);
    site.sign("tls");
    within(20, "the new certificate", || async {
        (serial().await != first).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_waits_for_its_certificate_and_its_database() {
    let world = world_alone().await;
    let site = Site::cold(world, &[]).await;
    let server = site.world.db.server();
    server.stop();
    std::fs::rename(site.path("tls/tls.key"), site.path("tls/later")).unwrap();
    site.start();
    let waits = async |what: &str| {
        within(30, what, || async {
            let (status, text) = site.health("/readyz").await?;
            (status == 503 && text.contains(what)).then_some(())
        })
        .await;
    };
    waits("certificate").await;
    std::fs::rename(site.path("tls/later"), site.path("tls/tls.key")).unwrap();
    waits("database").await;
    server.start_again().await;
    site.wait_until_ready().await;
}

#[tokio::test]
async fn a_server_told_to_stop_finishes_what_it_publishes() {
    let site = Site::new().await;
    let running = site.running().await;
    let body = zstd::encode_all(&many(20_000)[..], 3).unwrap();
    let mut stream = half(&site, &running, &body, body.len()).await;
    publication(&site).await;
    site.terminate();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(site.ended().await.success());
    assert_eq!(site.world.state(&running.attempt).await.0, "completed");
    assert_eq!(site.world.count("findings").await, 20_000);
}

#[tokio::test]
async fn an_upload_gives_up_at_its_deadline_and_ends_when_its_pod_is_deleted() {
    let site = Site::cold(World::new().await, &[]).await;
    let (mut command, place) = site.upload_command("token", Some(b"[]"));
    command.env("UPLOAD_DEADLINE_SECONDS", "3");
    let begun = Instant::now();
    let uploaded = site.finish_upload(command, place).await;
    assert_eq!(uploaded.code, 75);
    assert_eq!(uploaded.left["reason"], "UploadFailed");
    assert!(begun.elapsed() < Duration::from_mins(1), "of an hour");

    let (mut command, _) = site.upload_command("token", Some(b"[]"));
    let mut child = command.spawn().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let kill = std::process::Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let status = within(5, "upload to end", || {
        let ended = child.try_wait().unwrap();
        async move { ended }
    })
    .await;
    assert_eq!(status.code(), Some(143));
}
