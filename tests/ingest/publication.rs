//! What a file becomes in the tables, scan after scan, and that nothing is half-stored.

use std::time::Duration;

use prowler_operator::domain::clock::{Clock as _, SystemClock};
use prowler_operator::domain::ids::ProviderId;
use prowler_operator::domain::reason::Reason;
use prowler_operator::ingest::{Outcome, Wait};
use prowler_operator::store::deletion;
use prowler_operator::store::publication::{Attempt, Standing};
use serde_json::{Value, json};

use crate::support::ocsf::{array, file, record};
use crate::world::World;

/// Check, resource, muted and why, regions, title.
type Joined = (String, String, bool, Option<String>, Vec<String>, String);

fn refused(outcome: &Outcome) -> Reason {
    match outcome {
        Outcome::Closed(Standing::Refused { reason, .. }) => *reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_file_becomes_findings_resources_tags_and_counts() {
    let world = World::new().await;
    let attempt = world
        .scan_and_publish(&file(&[
            record("s3_public", "a").tags(&["env:prod", "team:x:y", "odd"]),
            record("s3_logging", "a").status("PASS").severity("Low"),
            record("s3_public", "b").muted(),
            record("s3_review", "b").status("MANUAL"),
            record("s3_crypt", "b").severity("Critical"),
        ]))
        .await;

    let (counts, resources, published, duration): (Value, i32, Option<i32>, Option<i32>) = world
        .rows("select counts, unique_resource_count, published_attempt, duration from scans")
        .await
        .remove(0);
    assert_eq!(
        counts,
        json!({"total": 5, "pass": 1, "fail": 2, "manual": 1, "muted": 1, "new": 4, "changed": 0,
               "critical": 1, "high": 1, "medium": 0, "low": 0, "informational": 0})
    );
    assert_eq!((resources, published), (2, Some(1)));
    assert!(duration.unwrap() >= 90);
    assert_eq!(
        world.state(&attempt).await,
        ("completed".into(), Some("Completed".into()), None)
    );

    let resources: Vec<(String, String, String, String, i32, Option<String>)> = world
        .rows(
            "select name, region, service, type, failed_findings_count, metadata
             from resources order by name",
        )
        .await;
    let s3 = |name: &str, failed| {
        let metadata = format!("{{\"name\":\"{name}\"}}");
        (
            name.to_owned(),
            "eu-west-1".to_owned(),
            "s3".to_owned(),
            "AwsS3Bucket".to_owned(),
            failed,
            Some(metadata),
        )
    };
    assert_eq!(resources, [s3("a", 1), s3("b", 1)]);

    let tags: Vec<(String, String)> = world
        .rows(
            "select t.key, t.value from resource_tags t
             join resource_tag_mappings m on m.tag_id = t.id order by t.key",
        )
        .await;
    let expected = [("env", "prod"), ("odd", ""), ("team", "x:y")];
    assert_eq!(tags, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));

    let joined: Vec<Joined> = world
        .rows(
            "select f.check_id, r.name, f.muted, f.muted_reason, f.resource_regions,
               c.metadata->>'checktitle'
             from findings f
             join resource_finding_mappings m on m.finding_id = f.id
             join resources r on r.id = m.resource_id
             join check_metadata c on c.check_id = f.check_id and c.sha256 = f.check_sha256
             where f.muted",
        )
        .await;
    assert_eq!(
        joined,
        [(
            "s3_public".to_owned(),
            "b".to_owned(),
            true,
            Some("Muted by mutelist".to_owned()),
            vec!["eu-west-1".to_owned()],
            "Title of s3_public".to_owned()
        )]
    );
    assert_eq!(world.count("check_metadata").await, 4);
    assert_eq!(world.count("resource_finding_mappings").await, 5);
}

#[tokio::test]
async fn the_month_of_every_finding_is_that_of_the_scan() {
    let world = World::new().await;
    let records: Vec<_> = (0..50).map(|n| record("c", &n.to_string())).collect();
    let attempt = world.scan_and_publish(&file(&records)).await;
    let outside = format!(
        "findings where left(id::text, 13) <> left('{}', 13) or substr(id::text, 15, 1) <> '7'",
        attempt.scan
    );
    assert_eq!(world.count(&outside).await, 0);
    let in_order = "(select uid, row_number() over (order by id) n,
        row_number() over (order by substring(uid from '[0-9]+$')::int) m from findings) x where n <> m";
    assert_eq!(world.count(in_order).await, 0);
}

#[tokio::test]
async fn publishing_twice_publishes_once() {
    let world = World::new().await;
    let file = file(&[record("c", "a")]);
    let attempt = world.scan_and_publish(&file).await;
    let again = world.publish(&attempt, &file).await;
    assert_eq!(again, Outcome::Closed(Standing::Published));
    assert_eq!(world.count("findings").await, 1);
}

#[tokio::test]
async fn a_second_scan_tells_new_changed_and_unchanged_apart() {
    let world = World::new().await;
    let first = world
        .scan_and_publish(&file(&[
            record("c", "a"),
            record("c", "b"),
            record("c", "gone"),
        ]))
        .await;
    let seen = world.findings(&first).await[0].3;

    let second = world
        .scan_and_publish(&file(&[
            record("c", "a"),
            record("c", "b").status("PASS"),
            record("c", "n"),
        ]))
        .await;
    assert_eq!(
        world.deltas(&second).await,
        [
            ("a".to_owned(), None),
            ("b".to_owned(), Some("changed".to_owned())),
            ("n".to_owned(), Some("new".to_owned()))
        ]
    );
    let findings = world.findings(&second).await;
    assert_eq!(findings[0].3, seen);
    assert_eq!(findings[1].3, seen);
    assert!(findings[2].3 > seen);

    // "gone" was not seen by the second scan: its newest finding is the first scan's.
    let third = world
        .scan_and_publish(&file(&[
            record("c", "a"),
            record("c", "b"),
            record("c", "gone"),
        ]))
        .await;
    assert_eq!(
        world.deltas(&third).await,
        [
            ("a".to_owned(), None),
            ("b".to_owned(), Some("changed".to_owned())),
            ("gone".to_owned(), None)
        ]
    );
    for finding in world.findings(&third).await {
        assert_eq!(finding.3, seen, "{finding:?}");
    }
}

#[tokio::test]
async fn first_seen_survives_a_scoped_and_a_failed_scan_in_between() {
    let world = World::new().await;
    let whole = file(&[record("c", "a"), record("d", "a")]);
    let first = world.scan_and_publish(&whole).await;
    let seen = world.findings(&first).await[0].3;
    world.scan_and_publish(&file(&[record("d", "a")])).await;
    let failed = world.scan().await;
    let cut = &whole[..whole.len() - 1];
    assert_eq!(
        refused(&world.publish(&failed, cut).await),
        Reason::OutputTruncated
    );
    let last = world.scan_and_publish(&whole).await;
    for (uid, _, delta, first_seen) in world.findings(&last).await {
        assert_eq!((delta, first_seen), (None, seen), "{uid}");
    }
}

#[tokio::test]
async fn resources_of_equal_name_in_a_region_stay_two() {
    let world = World::new().await;
    let twins = file(&[
        record("c", "twin").resource("arn:1"),
        record("c", "twin").resource("arn:2").status("PASS"),
    ]);
    let first = world.scan_and_publish(&twins).await;
    assert_eq!(world.count("findings").await, 2);
    assert_eq!(world.count("resources").await, 2);
    assert_eq!(world.findings(&first).await[0].2.as_deref(), Some("new"));
    // Neither is taken for the other's change, now or ever, in whatever order they come.
    let turned = file(&[
        record("c", "twin").resource("arn:2").status("PASS"),
        record("c", "twin").resource("arn:1"),
    ]);
    for file in [&twins, &turned, &turned, &twins] {
        let next = world.scan_and_publish(file).await;
        for finding in world.findings(&next).await {
            assert_eq!(finding.2, None, "{finding:?}");
        }
        let changed: Vec<(i32,)> = world
            .rows(&format!(
                "select (counts->>'changed')::integer from scans where id = '{}'",
                next.scan
            ))
            .await;
        assert_eq!(changed[0].0, 0);
    }
}

#[tokio::test]
async fn the_worst_of_equal_uids_decides_the_next_delta() {
    let world = World::new().await;
    let twin = |resource: &str, status| record("c", "twin").resource(resource).status(status);
    for (before, now, delta) in [
        (["FAIL", "PASS"], "PASS", Some("changed")),
        (["PASS", "FAIL"], "FAIL", None),
        (["PASS", "MANUAL"], "PASS", Some("changed")),
        (["MANUAL", "FAIL"], "MANUAL", Some("changed")),
        (["PASS", "PASS"], "PASS", None),
    ] {
        let both = file(&[twin("arn:1", before[0]), twin("arn:2", before[1])]);
        let first = world.scan_and_publish(&both).await;
        assert_eq!(world.findings(&first).await.len(), 2, "both are kept");
        let second = world.scan_and_publish(&file(&[twin("arn:1", now)])).await;
        let findings = world.findings(&second).await;
        assert_eq!(findings[0].2.as_deref(), delta, "{before:?} {now}");
    }
}

#[tokio::test]
async fn an_unchanged_resource_is_not_written_again() {
    let world = World::new().await;
    let records = [
        record("c", "a").tags(&["k:v"]),
        record("c", "b").tags(&["k:v"]),
    ];
    world.scan_and_publish(&file(&records)).await;
    let before: Vec<(String, String)> = world
        .rows("select name, xmin::text from resources order by name")
        .await;
    let mut changed = records.clone();
    changed[1].metadata = json!({"name": "b", "public": true});
    world.scan_and_publish(&file(&changed)).await;
    let after: Vec<(String, String)> = world
        .rows("select name, xmin::text from resources order by name")
        .await;
    assert_eq!(before[0], after[0]);
    assert_ne!(before[1], after[1]);
}

#[tokio::test]
async fn failures_of_a_resource_follow_the_newest_scan_that_saw_it() {
    let world = World::new().await;
    let failed = async || -> Vec<(String, i32)> {
        world
            .rows("select name, failed_findings_count from resources order by name")
            .await
    };
    world
        .scan_and_publish(&file(&[
            record("c", "a"),
            record("d", "a"),
            record("c", "b"),
            record("c", "c").muted(),
        ]))
        .await;
    assert_eq!(
        failed().await,
        [("a".into(), 2), ("b".into(), 1), ("c".into(), 0)]
    );
    world
        .scan_and_publish(&file(&[record("c", "a").status("PASS"), record("d", "a")]))
        .await;
    assert_eq!(
        failed().await,
        [("a".into(), 1), ("b".into(), 1), ("c".into(), 0)]
    );
}

#[tokio::test]
async fn tags_become_those_of_the_newest_scan() {
    let world = World::new().await;
    let tags = async || -> Vec<(String, String)> {
        world
            .rows(
                "select r.name, t.key || '=' || t.value from resource_tag_mappings m
                 join resources r on r.id = m.resource_id join resource_tags t on t.id = m.tag_id
                 order by 1, 2",
            )
            .await
    };
    world
        .scan_and_publish(&file(&[
            record("c", "a").tags(&["env:dev", "old:1"]),
            record("c", "b").tags(&["env:dev"]),
        ]))
        .await;
    world
        .scan_and_publish(&file(&[
            record("c", "a").tags(&["env:prod", "new:1"]),
            record("c", "b").tags(&["env:dev"]),
        ]))
        .await;
    assert_eq!(
        tags().await,
        [
            ("a".into(), "env=prod".into()),
            ("a".into(), "new=1".into()),
            ("b".into(), "env=dev".into())
        ]
    );
    world
        .scan_and_publish(&file(&[record("c", "a"), record("c", "b")]))
        .await;
    assert_eq!(tags().await, []);
}

#[tokio::test]
async fn files_that_are_of_no_use_fail_the_scan_and_leave_nothing() {
    let world = World::new().await;
    let whole = file(&[record("c", "a").tags(&["k:v"]), record("d", "b")]);
    let whole = String::from_utf8(whole).unwrap();
    let other = file(&[record("c", "a").account("999999999999"), record("d", "b")]);
    let cases: [(Vec<u8>, Reason, &str); 7] = [
        (vec![], Reason::NoOutput, "the file is empty"),
        (b"  \n".to_vec(), Reason::NoOutput, "the file is empty"),
        (
            whole[..whole.len() - 1].into(),
            Reason::OutputTruncated,
            "without its closing bracket",
        ),
        (
            whole[..whole.len() - 50].into(),
            Reason::OutputTruncated,
            "without its closing bracket",
        ),
        (
            format!("{whole}x").into(),
            Reason::OutputUnreadable,
            "something follows the end",
        ),
        (b"{}".to_vec(), Reason::OutputUnreadable, "no JSON array"),
        (other, Reason::WrongAccount, "999999999999"),
    ];
    for (file, reason, words) in cases {
        let attempt = world.scan().await;
        assert_eq!(refused(&world.publish(&attempt, &file).await), reason);
        let (state, stored, message) = world.state(&attempt).await;
        // Whether another attempt follows, the controller says.
        let expected = if reason.is_retried_once() {
            "executing"
        } else {
            "failed"
        };
        assert_eq!(
            (&*state, stored.as_deref()),
            (expected, Some(reason.as_str()))
        );
        let noted = format!(
            "scans where id = '{}' and refused_attempt = 1",
            attempt.scan
        );
        assert_eq!(world.count(&noted).await, 1);
        assert!(message.unwrap().contains(words), "{reason}");
        assert_eq!(world.stored().await, [], "{reason}");
        // The answer may have been lost: asking again tells the same, whatever is sent.
        assert_eq!(
            refused(&world.publish(&attempt, whole.as_bytes()).await),
            reason
        );
    }
}

#[tokio::test]
async fn an_empty_array_completes_the_scan_without_findings() {
    let world = World::new().await;
    let attempt = world.scan_and_publish(b"[]").await;
    assert_eq!(world.state(&attempt).await.0, "completed");
    assert_eq!(world.stored().await, []);
}

#[tokio::test]
async fn a_stale_attempt_a_cancelled_scan_and_a_foreign_job_publish_nothing() {
    let world = World::new().await;
    let file = file(&[record("c", "a")]);

    let stale = world.scan().await;
    world
        .admin(&format!(
            "update scans set attempt = 2, job_uid = gen_random_uuid() where id = '{}'",
            stale.scan
        ))
        .await;
    assert_eq!(
        world.publish(&stale, &file).await,
        Outcome::Closed(Standing::Stale)
    );

    let cancelled = world.scan().await;
    world
        .admin(&format!(
            "update scans set state = 'cancelled' where id = '{}'",
            cancelled.scan
        ))
        .await;
    assert_eq!(
        world.publish(&cancelled, &file).await,
        Outcome::Closed(Standing::Stale)
    );

    let mut elsewhere = world.scan().await;
    elsewhere.job_name.namespace = "team-b".to_owned();
    assert_eq!(
        world.publish(&elsewhere, &file).await,
        Outcome::Closed(Standing::NotItsJob)
    );
    assert_eq!(world.stored().await, []);
}

#[tokio::test]
async fn a_deleted_provider_takes_nothing() {
    let world = World::new().await;
    let attempt = world.scan().await;
    world
        .admin("update providers set is_deleted = true, deleted_at = now()")
        .await;
    let outcome = world.publish(&attempt, &file(&[record("c", "a")])).await;
    assert_eq!(outcome, Outcome::Closed(Standing::ProviderDeleted));
    assert_eq!(world.stored().await, []);
}

#[tokio::test]
async fn a_missing_month_is_waited_for() {
    let world = World::new().await;
    let attempt = world.scan().await;
    let months: Vec<(String,)> = world
        .rows(
            "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
             where c.relkind = 'r'",
        )
        .await;
    for (month,) in months {
        world.admin(&format!("drop table {month}")).await;
    }
    let outcome = world.publish(&attempt, &file(&[record("c", "a")])).await;
    assert_eq!(outcome, Outcome::Later(Wait::MonthMissing));
    assert_eq!(world.state(&attempt).await.0, "executing");
}

#[tokio::test]
async fn records_that_cannot_be_kept_are_set_aside_and_the_others_kept() {
    let world = World::new().await;
    let long = "prowler-aws-".to_owned() + &"é".repeat(300);
    let mut odd = record("c", "odd").json();
    odd["status_code"] = json!("MAYBE");
    let mut values = vec![
        record("c", "foreign").account("999999999999").json(),
        record("c", "long").uid(&long).json(),
        odd,
        json!(7),
        record("c", "nul\u{0}name").json(),
        record("c", "a").tags(&["a\u{0}b:c"]).json(),
        record("c", "TEXT").json(),
        record("c", "\\ud800").json(),
        record("c", "JSON").json(),
    ];
    let bad = values.len();
    let good = (0..90).map(|n| record("c", &n.to_string()).json());
    values.splice(0..0, good);
    let mut bytes = array(values);
    // What no value of a test can be: bytes that are no text, a lone half of a pair, no JSON.
    for (from, to) in [
        (&b"\"TEXT"[..], &b"\"\xffEXT"[..]),
        (b"\\\\ud800", b"\\ud800"),
        (b"\"JSON\"", b"JSON"),
    ] {
        let at = bytes.windows(from.len()).position(|part| part == from);
        let at = at.unwrap();
        bytes.splice(at..at + from.len(), to.iter().copied());
    }

    let attempt = world.scan_and_publish(&bytes).await;
    assert_eq!(world.count("findings").await, 90);
    let aside: Vec<(i64, i64, String, String, Vec<u8>)> = world
        .rows(
            "select position, byte_offset, reason, record, head from quarantined_findings
             order by 1",
        )
        .await;
    let reasons: Vec<_> = aside.iter().map(|row| (row.0, row.2.as_str())).collect();
    assert_eq!(
        reasons[..4],
        [
            (90, "the record is of another account"),
            (91, "finding_info.uid is longer than 300 characters"),
            (92, "status_code is neither PASS, FAIL nor MANUAL"),
            (93, "the element is no object"),
        ]
    );
    for (n, words) in [
        (4, "the record holds a NUL character at its byte "),
        (5, "the record holds a NUL character at its byte "),
        (6, "the record holds bytes that are no UTF-8 at its byte "),
        (7, "the record holds half of a surrogate pair at its byte "),
        (8, "the record is no valid JSON: "),
    ] {
        assert_eq!(reasons[n].0, 90 + i64::try_from(n).unwrap());
        assert!(reasons[n].1.starts_with(words), "{reasons:?}");
    }
    for (_, offset, _, record, head) in &aside {
        let from = usize::try_from(*offset).unwrap();
        assert_eq!(bytes[from..from + head.len()], *head);
        assert!(head.len() <= 1024 && !head.is_empty());
        assert_eq!(record, "", "of older programs");
    }
    assert!(aside[6].4.contains(&0xff), "as it stands in the file");
    let quarantined: Vec<(i32,)> = world.rows("select quarantined from scans").await;
    assert_eq!(quarantined[0].0, i32::try_from(bad).unwrap());
    // The finding with the long uid is not there, its resource is.
    assert_eq!(world.count("resources where name = 'long'").await, 1);
    assert_eq!(world.state(&attempt).await.0, "completed");
}

#[tokio::test]
async fn a_cluster_s_namespaces_are_its_regions() {
    let world = World::of("kubernetes", "prod").await;
    let mut value = record("core_root", "pod").json();
    value["cloud"].take();
    value["unmapped"]["provider_uid"] = json!("prod");
    value["resources"][0]["namespace"] = json!("kube-system");
    value["resources"][0]["region"].take();
    world.scan_and_publish(&array([value.clone()])).await;
    let regions: Vec<(Vec<String>,)> = world.rows("select resource_regions from findings").await;
    assert_eq!(regions, [(vec!["namespace: kube-system".to_owned()],)]);

    value["unmapped"]["provider_uid"] = json!("staging");
    let other = world.scan().await;
    assert_eq!(
        refused(&world.publish(&other, &array([value])).await),
        Reason::WrongAccount
    );
}

#[tokio::test]
async fn two_uploads_of_one_attempt_at_once_publish_once() {
    let world = World::new().await;
    let records: Vec<_> = (0..3000).map(|n| record("c", &n.to_string())).collect();
    let file = file(&records);
    let attempt = world.scan().await;
    let (one, two) = tokio::join!(
        world.publish(&attempt, &file),
        world.publish(&attempt, &file)
    );
    let published = |outcome: &Outcome| matches!(outcome, Outcome::Published(_));
    assert_eq!(
        i32::from(published(&one)) + i32::from(published(&two)),
        1,
        "{one:?} {two:?}"
    );
    let other = if published(&one) { two } else { one };
    assert!(
        matches!(
            other,
            Outcome::Later(Wait::Busy) | Outcome::Closed(Standing::Published)
        ),
        "{other:?}"
    );
    assert_eq!(world.count("findings").await, 3000);
}

/// The outcome of a large file of which nothing is kept, because a row is changed while it is being
/// published. Were the change held up until that is over, it would be published.
async fn meanwhile(world: &World, attempt: &Attempt, change: &str) -> Outcome {
    let records: Vec<_> = (0..20_000).map(|n| record("c", &n.to_string())).collect();
    let file = file(&records);
    let change = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.admin(change).await;
    };
    let (outcome, ()) = tokio::join!(world.publish(attempt, &file), change);
    assert_eq!(world.stored().await, []);
    outcome
}

#[tokio::test]
async fn a_scan_cancelled_while_its_findings_are_on_their_way_stays_cancelled() {
    let world = World::new().await;
    let attempt = world.scan().await;
    let cancel = "update scans set state = 'cancelled', reason = 'Cancelled'";
    assert_eq!(
        meanwhile(&world, &attempt, cancel).await,
        Outcome::Closed(Standing::Stale)
    );
    assert_eq!(world.state(&attempt).await.0, "cancelled");
}

#[tokio::test]
async fn a_provider_deleted_while_its_findings_are_on_their_way_takes_none() {
    let world = World::new().await;
    let attempt = world.scan().await;
    let delete = "update providers set is_deleted = true, deleted_at = now()";
    assert_eq!(
        meanwhile(&world, &attempt, delete).await,
        Outcome::Closed(Standing::ProviderDeleted)
    );
}

#[tokio::test]
async fn another_tenant_sees_nothing_of_it() {
    let world = World::new().await;
    world
        .scan_and_publish(&file(&[record("c", "a").tags(&["k:v"])]))
        .await;
    let other = World::new().await;
    let mut conn = world.db.user_conn().await;
    for (tenant, expected) in [(world.id(), 1), (other.id(), 0)] {
        let setting = format!("select set_config('api.tenant_id', '{tenant}', false)");
        crate::support::db::run(&mut conn, &setting).await;
        for table in [
            "findings",
            "resources",
            "resource_tags",
            "check_metadata",
            "provider_finding_states",
        ] {
            let sql = format!("select count(*) from {table}");
            let (rows,): (i64,) = sqlx::query_as(sqlx::AssertSqlSafe(sql))
                .fetch_one(&mut conn)
                .await
                .unwrap();
            assert_eq!(rows, expected, "{table}");
        }
    }
}

#[tokio::test]
async fn a_deleted_provider_s_findings_go_scan_by_scan_and_nothing_is_left() {
    let world = World::new().await;
    let mut records: Vec<_> = (0..4000)
        .map(|n| record("c", &n.to_string()).tags(&["k:v"]))
        .collect();
    records.push(record("c", "foreign").account("999999999999"));
    for _ in 0..2 {
        world.scan_and_publish(&file(&records)).await;
    }
    assert_eq!(world.count("quarantined_findings").await, 2);
    world.scan().await;
    world
        .admin(
            "insert into schedules (tenant_id, id, namespace, name, interval_seconds)
               select tenant_id, gen_random_uuid(), 'team-a', 'nightly', 3600 from providers;
             insert into schedule_slots
                 (tenant_id, schedule_id, provider_id, due_at, scan_name, state)
               select p.tenant_id, d.id, p.id, now() - n * interval '1 hour', 's-' || n, 'claimed'
               from providers p, schedules d, generate_series(1, 7) n;
             update providers set is_deleted = true;
             update scans set holds_account = false, slot = null, queue_slot = null",
        )
        .await;
    let mut tx = world.store.tenant(world.tenant).await.unwrap();
    assert_eq!(
        deletion::rows_left(&mut tx, world.provider).await.unwrap(),
        12_000
    );
    drop(tx);
    let mut deleted = 0;
    loop {
        let batch = deletion::step(&world.store, world.tenant, world.provider)
            .await
            .unwrap();
        deleted += batch.deleted;
        if batch.done {
            break;
        }
    }
    // Findings, resources, records set aside, due times, scans, the tag.
    assert_eq!(deleted, 8000 + 4000 + 2 + 7 + 3 + 1);
    assert_eq!(world.count("scans").await, 0);
    assert_eq!(world.count("schedule_slots").await, 0);
    let left: Vec<_> = world
        .stored()
        .await
        .into_iter()
        // Of the tenant, not of the account.
        .filter(|(table, _)| *table != "check_metadata")
        .collect();
    assert_eq!(left, []);
}

#[tokio::test]
async fn a_tag_in_use_again_is_not_removed_with_another_provider() {
    let world = World::new().await;
    let with_tag = file(&[record("c", "a").tags(&["k:v"])]);
    world.scan_and_publish(&with_tag).await;
    world.scan_and_publish(&file(&[record("c", "a")])).await;
    assert_eq!(world.count("resource_tags").await, 1, "left, unused");
    assert_eq!(world.count("resource_tag_mappings").await, 0);

    let doomed = ProviderId(SystemClock.uuid7());
    world
        .admin(&format!(
            "insert into providers (tenant_id, id, provider, uid, is_deleted)
             values ('{}', '{doomed}', 'aws', '000000000000', true);
             create function hold() returns trigger language plpgsql
               as $$ begin perform pg_sleep(1); return new; end $$;
             create trigger hold before update on scans for each row
               when (new.state = 'completed') execute function hold()",
            world.tenant
        ))
        .await;
    let attempt = world.scan().await;
    let removal = async {
        // Only a superuser sees what others wait for.
        let mut conn = world.db.superuser_conn().await;
        let sleeps = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
        let mut sleeping = 0_i64;
        while sleeping == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            sleeping = sqlx::query_scalar(sleeps)
                .fetch_one(&mut conn)
                .await
                .unwrap();
        }
        // The last step, which removes tags that nothing carries.
        deletion::step(&world.store, world.tenant, doomed).await
    };
    let (published, removed) = tokio::join!(world.publish(&attempt, &with_tag), removal);
    assert!(matches!(published, Outcome::Published(_)));
    let removed = removed.unwrap();
    assert_eq!((removed.busy, removed.done), (true, false));
    let carried = "resource_tag_mappings m join resource_tags t on t.id = m.tag_id";
    assert_eq!(world.count(carried).await, 1);
    // With nobody about to commit it goes on to the end.
    let removed = deletion::step(&world.store, world.tenant, doomed).await;
    assert!(removed.unwrap().done);
    assert_eq!(world.count(carried).await, 1);
}
