//! Uploads as scan pods make them, from the program's own `upload` to the tables.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::site::{Site, fixture, within};
use crate::support::ocsf::{file, record};
use crate::world::World;

#[tokio::test]
async fn findings_of_an_aws_account_arrive_once_however_often_they_are_sent() {
    let site = Site::new().await;
    let running = site.running().await;
    let file = fixture("aws.ocsf.json");
    for _ in 0..2 {
        let uploaded = site.upload(&running.token, Some(&file)).await;
        assert_eq!(uploaded.code, 0);
        assert_eq!(uploaded.left["reason"], "Completed");
    }
    assert_eq!(site.world.count("findings").await, 7);
    assert_eq!(site.world.state(&running.attempt).await.0, "completed");
    // The two keys of one user share a finding's uid and are two findings.
    let twins = "(select uid from findings group by uid having count(*) = 2) x";
    assert_eq!(site.world.count(twins).await, 1);
    let (_, metrics) = site.health("/metrics").await.unwrap();
    for line in [
        "prowler_operator_ingest_findings_total 7",
        "prowler_operator_ingest_uploads_total{outcome=\"Completed\"} 2",
        "prowler_operator_ingest_spool_bytes 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let (tenant, scan) = (
        site.world.tenant.to_string(),
        running.attempt.scan.to_string(),
    );
    let never = [
        tenant.as_str(),
        scan.as_str(),
        site.world.namespace.as_str(),
    ];
    crate::support::metrics::check(&metrics, &never);
    for name in [
        "prowler_operator_database_pool_connections_limit{pool=\"user\"}",
        "prowler_operator_kubernetes_requests_total{class=\"ok\"}",
    ] {
        let value = crate::support::metrics::value(&metrics, name);
        assert!(value >= Some(1.0), "{name}\n{metrics}");
    }
    let log = site.log();
    let published: Vec<_> = log
        .lines()
        .filter(|line| line.contains("\"published\""))
        .collect();
    assert_eq!(published.len(), 1, "{log}");
    for id in [
        site.world.tenant.to_string(),
        running.attempt.scan.to_string(),
    ] {
        assert!(published[0].contains(&id), "{published:?}");
    }
}

#[tokio::test]
async fn findings_of_a_cluster_arrive() {
    let site = Site::with(World::of("kubernetes", "in-cluster").await, &[]).await;
    let running = site.running().await;
    let uploaded = site
        .upload(&running.token, Some(&fixture("kubernetes.ocsf.json")))
        .await;
    assert_eq!(uploaded.code, 0, "{}", uploaded.left);
    let regions: Vec<(String,)> = site
        .world
        .rows("select distinct resource_regions[1] from findings order by 1")
        .await;
    assert_eq!(
        regions,
        [
            ("namespace: cluster-wide".to_owned(),),
            ("namespace: kube-public".to_owned(),)
        ]
    );
}

#[tokio::test]
async fn a_file_of_no_use_fails_the_scan_and_the_pod_says_why() {
    let site = Site::new().await;
    let whole = file(&[record("c", "a"), record("c", "b")]);
    let other = file(&[record("c", "a").account("999999999999")]);
    // Whether another attempt follows where one may, the controller says.
    for (file, reason, becomes) in [
        (None, "NoOutput", "executing"),
        (Some(&b""[..]), "NoOutput", "executing"),
        (
            Some(&whole[..whole.len() - 1]),
            "OutputTruncated",
            "executing",
        ),
        (Some(&b"nonsense"[..]), "OutputUnreadable", "failed"),
        (Some(&other[..]), "WrongAccount", "failed"),
    ] {
        let running = site.running().await;
        // A second time: the first answer may have been lost.
        for _ in 0..2 {
            let uploaded = site.upload(&running.token, file).await;
            assert_eq!(uploaded.code, 3, "{reason}");
            assert_eq!(uploaded.left["reason"], reason);
        }
        let (state, stored, message) = site.world.state(&running.attempt).await;
        assert_eq!((&*state, stored.as_deref()), (becomes, Some(reason)));
        assert!(message.is_some());
        assert_eq!(site.world.stored().await, [], "{reason}");
    }
}

#[tokio::test]
async fn an_empty_array_is_a_scan_without_findings() {
    let site = Site::new().await;
    let running = site.running().await;
    let uploaded = site.upload(&running.token, Some(b"[]")).await;
    assert_eq!(uploaded.code, 0);
    assert_eq!(site.world.state(&running.attempt).await.0, "completed");
}

#[tokio::test]
async fn an_attempt_that_is_over_is_told_so() {
    let site = Site::new().await;
    let file = file(&[record("c", "a")]);

    // A zombie: its scan has a later attempt, with another Job or none yet.
    for job in ["gen_random_uuid()", "null"] {
        let old = site.running().await;
        site.world
            .admin(&format!(
                "update scans set attempt = 2, job_uid = {job} where id = '{}'",
                old.attempt.scan
            ))
            .await;
        let uploaded = site.upload(&old.token, Some(&file)).await;
        assert_eq!(
            (uploaded.code, &uploaded.left["reason"]),
            (3, &json!("StaleAttempt"))
        );
        assert_eq!(site.world.state(&old.attempt).await.0, "executing");
    }

    let cancelled = site.running().await;
    site.world
        .admin(&format!(
            "update scans set state = 'cancelled' where id = '{}'",
            cancelled.attempt.scan
        ))
        .await;
    let uploaded = site.upload(&cancelled.token, Some(&file)).await;
    assert_eq!(uploaded.left["reason"], "StaleAttempt");

    let deleted = site.running().await;
    site.world
        .admin("update providers set is_deleted = true")
        .await;
    let uploaded = site.upload(&deleted.token, Some(&file)).await;
    assert_eq!(
        (uploaded.code, &uploaded.left["reason"]),
        (3, &json!("ProviderDeleted"))
    );
    let (state, reason, _) = site.world.state(&deleted.attempt).await;
    assert_eq!(
        (&*state, reason.as_deref()),
        ("cancelled", Some("ProviderDeleted"))
    );
    assert_eq!(site.world.stored().await, []);
}

#[tokio::test]
async fn later_records_of_another_account_are_set_aside() {
    let site = Site::new().await;
    let running = site.running().await;
    let mut records: Vec<_> = (0..10).map(|n| record("c", &n.to_string())).collect();
    records[1] = record("c", "b").account("999999999999");
    let file = file(&records);
    assert_eq!(site.upload(&running.token, Some(&file)).await.code, 0);
    assert_eq!(site.world.count("findings").await, 9);
    let aside: Vec<(i64, String, i32)> = site
        .world
        .rows("select position, reason, attempt from quarantined_findings")
        .await;
    assert_eq!(
        aside,
        [(1, "the record is of another account".to_owned(), 1)]
    );
}

#[tokio::test]
async fn two_uploads_of_one_attempt_at_once_both_end_well_and_publish_once() {
    let site = Site::new().await;
    let running = site.running().await;
    let records: Vec<_> = (0..5000).map(|n| record("c", &n.to_string())).collect();
    let file = file(&records);
    let (one, two) = tokio::join!(
        site.upload(&running.token, Some(&file)),
        site.upload(&running.token, Some(&file))
    );
    assert_eq!((one.code, two.code), (0, 0), "{} {}", one.left, two.left);
    assert_eq!(site.world.count("findings").await, 5000);
    assert_eq!(site.world.count("resource_finding_mappings").await, 5000);
}

#[tokio::test]
async fn a_scan_whose_job_is_recorded_late_waits_for_it() {
    let site = Site::new().await;
    let scan = prowler_operator::domain::ids::ScanId(uuid7());
    let job = site.job(scan, 1).await;
    let name = job.metadata.name.clone().unwrap();
    let attempt = site.world.scan_in(scan, None, &name).await;
    let pod = site.pod(&job, site.labels(scan, 1)).await;
    let token = site.token(&pod, "prowler-operator").await;
    let file = file(&[record("c", "a")]);

    let (status, after, answer) = site.send(&token, &file).await;
    assert_eq!((status, &answer["reason"]), (503, &json!("JobNotRecorded")));
    assert!(after.unwrap() > 0);

    let record_it = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        site.world
            .admin(&format!(
                "update scans set job_uid = '{}' where id = '{scan}'",
                job.metadata.uid.as_deref().unwrap()
            ))
            .await;
    };
    let (uploaded, ()) = tokio::join!(site.upload(&token, Some(&file)), record_it);
    assert_eq!(uploaded.code, 0, "{}", uploaded.left);
    assert_eq!(site.world.state(&attempt).await.0, "completed");
}

#[tokio::test]
async fn bodies_have_bounds_and_a_file_beyond_them_fails_its_scan() {
    let site = Site::with(
        World::new().await,
        &[
            ("MAX_UPLOAD_BYTES", "20000"),
            ("MAX_FILE_BYTES", "3000000"),
            ("MAX_SPOOL_BYTES", "30000"),
        ],
    )
    .await;
    let noise = "cubes".to_owned()
        + &(0..20_000_u64)
            .map(|n| (n * n * n).to_string())
            .collect::<Vec<_>>()
            .concat();

    let large = site.running().await;
    let uploaded = site.upload(&large.token, Some(noise.as_bytes())).await;
    assert_eq!(
        (uploaded.code, &uploaded.left["reason"]),
        (3, &json!("OutputTooLarge"))
    );

    let bomb = site.running().await;
    let zeros = format!("[{}]", " ".repeat(4_000_000));
    let uploaded = site.upload(&bomb.token, Some(zeros.as_bytes())).await;
    assert_eq!(
        (uploaded.code, &uploaded.left["reason"]),
        (3, &json!("OutputTooLarge"))
    );
    assert_eq!(
        site.world.state(&bomb.attempt).await.1.as_deref(),
        Some("OutputTooLarge")
    );

    let (status, _, answer) = site
        .post(
            &[
                ("authorization", &format!("Bearer {}", bomb.token)),
                ("content-encoding", "br"),
            ],
            b"x",
        )
        .await;
    assert_eq!(
        (status, &answer["reason"]),
        (415, &json!("UnsupportedEncoding"))
    );
    assert_eq!(site.world.stored().await, []);
    assert_eq!(site.spooled_files(), 0);
}

#[tokio::test]
async fn a_body_larger_than_allowed_fails_its_scan_and_a_full_spool_asks_to_come_again() {
    let site = Site::with(
        World::new().await,
        &[("MAX_UPLOAD_BYTES", "40000"), ("MAX_SPOOL_BYTES", "50000")],
    )
    .await;
    let noise: Vec<u8> = (0..20_000_u64)
        .flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[..4].to_vec())
        .collect();
    let large = site.running().await;
    let bearer = format!("Bearer {}", large.token);
    let (status, _, answer) = site.post(&[("authorization", &bearer)], &noise).await;
    assert_eq!((status, &answer["reason"]), (413, &json!("OutputTooLarge")));
    assert_eq!(site.world.state(&large.attempt).await.0, "failed");

    // One body is held back, so that the next finds no room.
    let first = site.running().await;
    let mut held = site.connect().await.unwrap();
    let request = format!(
        "POST /v1/upload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Length: 35000\r\n\r\n",
        first.token
    );
    held.write_all(request.as_bytes()).await.unwrap();
    held.write_all(&noise[..30_000]).await.unwrap();
    within(20, "the first body to be spooled", || async {
        let (_, metrics) = site.health("/metrics").await?;
        metrics
            .contains("prowler_operator_ingest_spool_bytes 30000")
            .then_some(())
    })
    .await;
    let second = site.running().await;
    let bearer = format!("Bearer {}", second.token);
    let (status, after, answer) = site
        .post(&[("authorization", &bearer)], &noise[..30_000])
        .await;
    assert_eq!((status, &answer["reason"]), (503, &json!("SpoolFull")));
    assert!(after.is_some());
    drop(held);
    within(20, "the room to be free again", || async {
        let (status, ..) = site.post(&[("authorization", &bearer)], b"[]").await;
        (status == 200).then_some(())
    })
    .await;
    assert_eq!(site.world.state(&first.attempt).await.0, "executing");
}

fn uuid7() -> uuid::Uuid {
    use prowler_operator::domain::clock::Clock as _;
    prowler_operator::domain::clock::SystemClock.uuid7()
}
