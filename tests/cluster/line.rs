//! The main line: kubectl apply, real Prowler, findings under row-level security.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::demo::{
    Demo, NAMESPACE, OTHER, SYSTEM, await_tenant, condition, number, other_tenant, remove_other,
    text, wait_for,
};

/// The demo's AWS account once more, and one scan of a part of it.
fn other_account() -> String {
    format!(
        "apiVersion: v1\n\
         kind: Secret\n\
         metadata: {{name: keys, namespace: {OTHER}, labels: {{prowler-operator.dev/credentials: \"true\"}}}}\n\
         stringData: {{aws_access_key_id: other, aws_secret_access_key: other}}\n\
         ---\n\
         apiVersion: prowler-operator.dev/v1alpha1\n\
         kind: Provider\n\
         metadata: {{name: same, namespace: {OTHER}}}\n\
         spec:\n\
         \x20 provider: aws\n\
         \x20 uid: \"123456789012\"\n\
         \x20 credentials: {{type: static, secretRef: {{name: keys}}}}\n\
         ---\n\
         apiVersion: prowler-operator.dev/v1alpha1\n\
         kind: Scan\n\
         metadata: {{name: by-hand, namespace: {OTHER}}}\n\
         spec:\n\
         \x20 providerRef: {{name: same}}\n\
         \x20 scan: {{services: [s3], regions: [us-east-1]}}\n"
    )
}

/// Rows of each tenant table, under a tenant.
fn rows(demo: &Demo, tenant: Option<&str>) -> BTreeMap<String, i64> {
    let tables = [
        "tenants",
        "providers",
        "schedules",
        "schedule_slots",
        "scans",
        "resources",
        "findings",
        "resource_finding_mappings",
        "check_metadata",
    ];
    let counts: Vec<String> = tables
        .iter()
        .map(|table| format!("select '{table}', count(*) from {table}"))
        .collect();
    demo.sql("user", tenant, &counts.join(" union all "))
        .into_iter()
        .map(|row| (row[0].clone(), row[1].parse().unwrap()))
        .collect()
}

fn scans(demo: &Demo) -> Vec<Value> {
    demo.list(&["prowlerscans", "--namespace", NAMESPACE])
}

#[test]
fn both_accounts_are_ready_and_scanned() {
    let demo = Demo::up();
    let tenant = demo.get(&["prowlertenant", "demo"]);
    assert_eq!(condition(&tenant, "Ready"), "True");
    assert_eq!(number(&tenant, "/status/providers"), 2);

    let providers = demo.list(&["prowlerproviders", "--namespace", NAMESPACE]);
    let accounts: Vec<_> = providers.iter().map(|p| text(p, "/spec/uid")).collect();
    assert_eq!(accounts, ["123456789012", "demo-cluster"]);
    for provider in &providers {
        assert_eq!(condition(provider, "Ready"), "True");
        assert_eq!(
            provider["status"]["observedGeneration"],
            provider["metadata"]["generation"]
        );
        assert_eq!(text(provider, "/status/lastScan/state"), "completed");
        assert!(number(provider, "/status/lastScan/fail") > 0);
    }

    let schedule = demo.get(&["scanschedule", "daily", "--namespace", NAMESPACE]);
    assert_eq!(condition(&schedule, "Ready"), "True");
    let last: jiff::Timestamp = text(&schedule, "/status/lastScheduleTime").parse().unwrap();
    let next: jiff::Timestamp = text(&schedule, "/status/nextScheduleTime").parse().unwrap();
    assert_eq!(next.as_second() - last.as_second(), 24 * 3600);

    for scan in scans(&demo) {
        assert_eq!(text(&scan, "/status/state"), "completed");
        assert_eq!(text(&scan, "/status/stage"), "Done");
        assert_eq!(text(&scan, "/spec/trigger"), "scheduled");
        let count = |name: &str| number(&scan, &format!("/status/findings/{name}"));
        assert!(count("total") > 0);
        assert!(count("fail") > 0);
        assert!(count("pass") > 0);
        assert_eq!(
            count("total"),
            count("pass") + count("fail") + count("manual") + count("muted")
        );
        let severities = ["critical", "high", "medium", "low", "informational"];
        let failed: i64 = severities
            .iter()
            .map(|s| number(&scan, &format!("/status/failedBySeverity/{s}")))
            .sum();
        assert_eq!(failed, count("fail"));
        assert!(number(&scan, "/status/durationSeconds") > 0);
        assert!(number(&scan, "/status/resources") > 0);
        assert_eq!(number(&scan, "/status/attempt"), 1);
    }
}

#[test]
fn the_demo_prints_objects_findings_and_times() {
    let demo = Demo::up();
    let shown = demo.shown();
    for line in [
        "kubectl get prowler -A",
        "provider.prowler-operator.dev/aws-sandbox",
        "scanschedule.prowler-operator.dev/daily",
        "tenant.prowler-operator.dev/demo",
        "Findings of tenant demo, read from Postgres as prowler_user",
        "aws 123456789012",
        "kubernetes demo-cluster",
        "How long it took",
        "helm install",
        "in all",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    // The table is what the Scans' status says.
    let failed_in_table: i64 = shown
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() == 7 && ["aws", "kubernetes"].contains(&words[0]))
        .map(|words| words[3].parse::<i64>().unwrap())
        .sum();
    let providers = demo.list(&["prowlerproviders", "--namespace", NAMESPACE]);
    let failed: i64 = providers
        .iter()
        .map(|provider| number(provider, "/status/lastScan/fail"))
        .sum();
    assert_eq!(failed_in_table, failed, "{shown}");
}

#[test]
fn the_rows_are_those_the_status_counts() {
    let demo = Demo::up();
    for scan in scans(&demo) {
        let id = text(&scan, "/status/scanId");
        let found = demo.sql(
            "user",
            Some("demo"),
            &format!(
                "select count(*), count(*) filter (where status = 'FAIL' and not muted),
                        count(distinct uid), min(first_seen_at) is not null
                   from findings where scan_id = '{id}'"
            ),
        );
        let total = number(&scan, "/status/findings/total");
        let fail = number(&scan, "/status/findings/fail");
        assert_eq!(found[0][0], total.to_string());
        assert_eq!(found[0][1], fail.to_string());
        assert_eq!(found[0][3], "t");
    }
    // Each finding has a resource, and none another tenant's.
    let orphans = demo.number(
        "admin",
        None,
        "select count(*) from resource_finding_mappings m
          where not exists (select from findings f where (f.tenant_id, f.id) = (m.tenant_id, m.finding_id))
             or not exists (select from resources r where (r.tenant_id, r.id) = (m.tenant_id, m.resource_id))",
    );
    assert_eq!(orphans, 0);
}

#[test]
fn a_tenants_rows_are_seen_by_that_tenant_alone() {
    let demo = Demo::up();
    remove_other(&demo);
    demo.apply(&other_tenant());
    await_tenant(&demo);

    let own = rows(&demo, Some("demo"));
    for table in ["providers", "scans", "findings", "resources", "schedules"] {
        assert!(own[table] > 0, "{table}");
    }
    assert_eq!(own["tenants"], 1);
    for (table, count) in rows(&demo, Some(OTHER)) {
        assert_eq!(count, i64::from(table == "tenants"), "{table}");
    }
    for (table, count) in rows(&demo, None) {
        assert_eq!(count, 0, "{table} without a tenant");
    }
    // Nor can it be written, whatever the statement says.
    let touched = demo.sql(
        "user",
        Some(OTHER),
        "with gone as (delete from findings returning 1), changed as (update providers set alias = 'x' returning 1)
         select (select count(*) from gone), (select count(*) from changed)",
    );
    assert_eq!(touched, [["0", "0"]]);
    assert_eq!(rows(&demo, Some("demo")), own);
    remove_other(&demo);
}

#[test]
fn an_account_in_two_tenants_stays_apart_and_goes_from_one_alone() {
    let demo = Demo::up();
    remove_other(&demo);
    let before = rows(&demo, Some("demo"));
    demo.apply(&other_tenant());
    demo.apply(&other_account());
    let scan = wait_for("the scan made by hand", 300, || {
        let scan = demo.get(&["prowlerscan", "by-hand", "--namespace", OTHER]);
        let state = scan.pointer("/status/state").and_then(Value::as_str);
        assert_ne!(state, Some("failed"), "{}", scan["status"]);
        (state == Some("completed")).then_some(scan)
    });
    assert_eq!(text(&scan, "/spec/trigger"), "manual");
    let other = rows(&demo, Some(OTHER));
    assert_eq!(other["findings"], number(&scan, "/status/findings/total"));
    assert!(other["findings"] > 0);
    assert_eq!(other["providers"], 1);
    assert_eq!(rows(&demo, Some("demo")), before);
    // Two accounts of one name, two rows.
    let accounts = "select count(*) from providers where uid = '123456789012' and not is_deleted";
    assert_eq!(demo.number("admin", None, accounts), 2);

    demo.kubectl(&[
        "delete",
        "prowlerprovider",
        "same",
        "--namespace",
        OTHER,
        "--timeout=180s",
    ]);
    let left = rows(&demo, Some(OTHER));
    for table in [
        "providers",
        "scans",
        "findings",
        "resources",
        "resource_finding_mappings",
    ] {
        assert_eq!(left[table], 0, "{table}");
    }
    assert_eq!(rows(&demo, Some("demo")), before);

    let id = demo.sql(
        "admin",
        None,
        &format!("select id from tenants where name = '{OTHER}'"),
    );
    remove_other(&demo);
    let id = &id[0][0];
    let gone = demo.number(
        "admin",
        None,
        &format!("select count(*) from tenants where id = '{id}' and not is_deleted"),
    );
    assert_eq!(gone, 0);
    assert_eq!(rows(&demo, Some("demo")), before);
}

#[test]
fn finished_scans_leave_no_job_and_no_pod() {
    let demo = Demo::up();
    wait_for("Jobs and pods to go", 60, || {
        let left = demo.list(&["jobs,pods", "--namespace", NAMESPACE]);
        left.is_empty().then_some(())
    });
}

/// The versions once nothing changes any more: what a scan leaves behind goes a little after it.
fn versions_at_rest(demo: &Demo) -> BTreeMap<String, String> {
    let mut before = versions(demo);
    wait_for("the demo to come to rest", 90, || {
        std::thread::sleep(Duration::from_secs(3));
        let now = versions(demo);
        let at_rest = now == before;
        before = now;
        at_rest.then_some(())
    });
    before
}

/// Kind, namespace and name of each object to its resource version: all that may differ between
/// two moments in which nothing happens left out.
fn versions(demo: &Demo) -> BTreeMap<String, String> {
    let kinds = "deployments,statefulsets,services,configmaps,secrets,serviceaccounts,persistentvolumeclaims,\
                 roles.rbac.authorization.k8s.io,rolebindings,pods,jobs,poddisruptionbudgets";
    let mut all = Vec::new();
    for namespace in [SYSTEM, NAMESPACE, "prowler-demo-aws"] {
        all.extend(demo.list(&[kinds, "--namespace", namespace]));
    }
    all.extend(demo.list(&["prowler", "--all-namespaces"]));
    all.extend(
        demo.list(&["customresourcedefinitions,clusterroles,clusterrolebindings,namespaces"]),
    );
    all.into_iter()
        .map(|object| {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
            (
                format!(
                    "{} {namespace}/{}",
                    text(&object, "/kind"),
                    text(&object, "/metadata/name")
                ),
                text(&object, "/metadata/resourceVersion"),
            )
        })
        .collect()
}

#[test]
fn a_second_demo_changes_nothing_and_takes_less_than_a_minute() {
    let mut demo = Demo::up();
    let (before, rows_before) = (versions_at_rest(&demo), rows(&demo, Some("demo")));
    assert!(before.len() > 50);
    let took = demo.up_again();
    assert!(took < Duration::from_mins(1), "{took:?}");
    let after = versions(&demo);
    let changed: Vec<_> = before
        .iter()
        .filter(|(object, version)| after.get(*object) != Some(version))
        .map(|(object, _)| object)
        .chain(after.keys().filter(|object| !before.contains_key(*object)))
        .collect();
    assert!(changed.is_empty(), "{changed:?}");
    assert_eq!(rows(&demo, Some("demo")), rows_before);
}

#[test]
fn no_log_shows_a_password() {
    let demo = Demo::up();
    let secret = demo.get(&["secret", "prowler-operator-database", "--namespace", SYSTEM]);
    let passwords: Vec<String> = ["admin-password", "user-password", "postgres-password"]
        .iter()
        .map(|key| {
            let template = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
            demo.kubectl(&[
                "get",
                "secret",
                "prowler-operator-database",
                "--namespace",
                SYSTEM,
                "--output",
                &template,
            ])
        })
        .collect();
    assert!(secret["data"]["tls.key"].is_string());
    for (pod, _) in demo.pods() {
        let logs = demo.kubectl(&["logs", &pod, "--namespace", SYSTEM, "--all-containers"]);
        assert!(!logs.is_empty(), "{pod}");
        for password in &passwords {
            assert!(password.len() >= 48);
            assert!(!logs.contains(password.as_str()), "{pod}");
        }
    }
}

#[test]
fn no_cloud_credential_is_anywhere_but_in_its_secret() {
    let demo = Demo::up();
    let template = "go-template={{range .data}}{{base64decode .}}{{\"\\n\"}}{{end}}";
    let secret = ["get", "secret", "aws-sandbox", "--namespace", NAMESPACE];
    let keys = demo.kubectl(&[&secret[..], &["--output", template]].concat());
    let keys: Vec<_> = keys.lines().collect();
    assert_eq!(keys.len(), 2);
    assert!(keys.iter().all(|key| key.len() >= 16));

    // They were used: an account was scanned with them.
    assert!(demo.number("admin", None, "select count(*) from findings") > 0);
    let kinds = "prowler,jobs,pods,events,configmaps,deployments,statefulsets";
    let objects = demo.kubectl(&["get", kinds, "--all-namespaces", "--output", "yaml"]);
    assert!(objects.contains("aws-sandbox"));
    let mut places = vec![("objects".to_owned(), objects)];
    for (pod, _) in demo.pods() {
        let logs = demo.kubectl(&["logs", &pod, "--namespace", SYSTEM, "--all-containers"]);
        places.push((pod, logs));
    }
    for (place, text) in &places {
        for key in &keys {
            assert!(!text.contains(key), "{place}");
        }
    }
    let tables = "select relname from pg_class
                  where relnamespace = 'prowler'::regnamespace and relkind in ('r', 'p')";
    let tables = demo.sql("admin", None, tables);
    assert!(tables.len() > 20);
    for table in tables {
        for key in &keys {
            let rows = format!(
                "select count(*) from {} r where r::text like '%{key}%'",
                table[0]
            );
            assert_eq!(demo.number("admin", None, &rows), 0, "{}", table[0]);
        }
    }
}

#[test]
fn the_charts_own_test_passes() {
    let demo = Demo::up();
    let said = demo.helm(&["test", "prowler-operator", "--timeout", "3m"]);
    assert!(said.contains("Phase:          Succeeded"), "{said}");
}

#[test]
fn sql_runs_as_the_role_that_was_named() {
    let demo = Demo::up();
    for role in ["user", "admin"] {
        let who = demo.sql(
            role,
            None,
            "select current_user, current_schema(), null, 'a b'",
        );
        assert_eq!(
            who,
            [[
                format!("prowler_{role}"),
                "prowler".into(),
                String::new(),
                "a b".into()
            ]]
        );
    }
    let plain = demo.sql(
        "admin",
        None,
        "select count(*) from pg_roles where rolname like 'prowler\\_%'
            and not (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication)",
    );
    assert_eq!(plain, [["2"]]);
    // The connection that was used for one tenant shows nothing to the next.
    let several = demo.sql(
        "user",
        Some("demo"),
        "select 1 from providers; select name from tenants",
    );
    assert_eq!(several, [["1"], ["1"], ["demo"]]);
}
