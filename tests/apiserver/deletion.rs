//! Deletion: what hangs on an object goes before it, in whatever order people delete, however
//! often the program or the database goes away meanwhile, and nothing is left behind.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};
use prowler_operator::api::{
    Provider, ProviderGroup, Role, Scan, ScanSchedule, Tenant, annotations,
};
use prowler_operator::domain::clock::{Clock as _, SystemClock};
use prowler_operator::domain::ids::{ObjectName, ScanId};
use prowler_operator::ingest::spool::{Encoding, Limits, Spool};
use prowler_operator::ingest::{self, Outcome};
use prowler_operator::store::partitions;
use prowler_operator::store::publication::Attempt;
use serde_json::{Value, json};

use crate::support::db::run;
use crate::support::faults::Fault;
use crate::support::ocsf::{Record, file, record};
use crate::support::operator::{ACCOUNT, Operator, World, scanning};

const OTHER: &str = "210987654321";

/// Lets the server publish a real file of the scan that runs as this Job.
async fn upload(operator: &Operator, world: &World, job: &Job, records: &[Record]) {
    partitions::ensure_months(&operator.cx.admin, operator.clock.now(), 1)
        .await
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        body: 1 << 20,
        spool: 1 << 22,
        file: 1 << 22,
        record: 1 << 20,
    };
    let spool = Spool::open(dir.path().to_owned(), limits).unwrap();
    let mut incoming = spool.begin(SystemClock.uuid7()).unwrap();
    let body = zstd::encode_all(&*file(records), 1).unwrap();
    incoming.write(&body).await.unwrap();
    let spooled = incoming.finish(Encoding::Zstd).await.unwrap();
    let uid = job.uid().unwrap();
    let row = format!("scans where job_uid = '{uid}'");
    let scan = operator.sql(&format!("select id from {row}")).await;
    let attempt = Attempt {
        tenant: operator.tenant_id(world),
        scan: ScanId(scan.parse().unwrap()),
        attempt: 1,
        job: uid.parse().unwrap(),
        job_name: ObjectName {
            namespace: world.namespace.clone(),
            name: job.name_any(),
        },
    };
    let outcome = ingest::publish(&operator.cx.store, &SystemClock, &attempt, spooled).await;
    assert!(matches!(outcome, Ok(Outcome::Published(_))), "{outcome:?}");
}

/// A tenant with two Providers, each with a group, a schedule and a published scan, and a Role.
async fn furnished(operator: &Operator) -> World {
    let world = operator.tenant().await;
    let namespace = &world.namespace;
    for (name, account) in [("p", ACCOUNT), ("q", OTHER)] {
        operator.provider(&world, name, account).await;
        let refs = json!([{ "name": name }]);
        let spec = json!({ "providerRefs": refs });
        operator
            .becomes::<ProviderGroup>(namespace, name, spec)
            .await;
        let spec = json!({ "interval": "24h", "providerRefs": refs });
        operator.apply::<ScanSchedule>(namespace, name, spec).await;
        operator.schedules_rest(&world).await;
        let scans = operator.names::<Scan>(namespace).await;
        let scan = scans.iter().find(|scan| scan.starts_with(name)).unwrap();
        operator.follow::<Scan>(namespace, scan).await;
        operator.admit().await;
        operator.follow::<Scan>(namespace, scan).await;
        let job = operator.job_of(&world, scan).await;
        let only = format!("only:{name}");
        let of_x = |n: usize| {
            record(&format!("a{n}"), "x")
                .account(account)
                .tags(&["both:x", &only])
        };
        let mut records: Vec<_> = (1..10).map(of_x).collect();
        records.extend([
            record("b", "y").account(account).tags(&["both:x"]),
            // Of another account: set aside. More of such would be the end of the file.
            record("c", "z").account("999999999999"),
        ]);
        upload(operator, &world, &job, &records).await;
        operator.follow::<Scan>(namespace, scan).await;
        let ask = json!({ "metadata": { "annotations": { annotations::SCAN_NOW: "again" } } });
        operator.patch::<Provider>(namespace, name, ask).await;
        operator.follow::<Provider>(namespace, name).await;
        operator.pass_all::<Scan>(&world).await;
        operator.pass_all::<Scan>(&world).await;
    }
    let spec = json!({ "permissions": ["MANAGE_SCANS"],
                       "providerGroupRefs": [{ "name": "p" }, { "name": "q" }] });
    operator.becomes::<Role>(namespace, "auditor", spec).await;
    world
}

/// The tables of the tenant with a row that has one of these ids.
async fn tables_with(operator: &Operator, world: &World, ids: &[String]) -> Vec<String> {
    let rows = operator.rows(operator.tenant_id(world)).await;
    let named = |rows: &Value| {
        let text = rows.to_string();
        ids.iter().any(|id| text.contains(id))
    };
    rows.iter()
        .filter(|(_, rows)| named(rows))
        .map(|(table, _)| table.clone())
        .collect()
}

#[tokio::test]
async fn no_row_of_a_deleted_provider_is_left_in_any_table_and_no_other_is_touched() {
    let operator = Operator::new().await;
    let world = furnished(&operator).await;
    let ids = operator
        .sql(
            "select string_agg(id::text, ',') from (
               select p.id from providers p where name = 'p'
               union all select s.id from scans s join providers p on p.id = s.provider_id where p.name = 'p'
               union all select r.id from resources r join providers p on p.id = r.provider_id where p.name = 'p'
               union all select f.id from findings f join providers p on p.id = f.provider_id where p.name = 'p'
             ) doomed",
        )
        .await;
    let ids: Vec<_> = ids.split(',').map(str::to_owned).collect();
    // What there is to delete; a table that comes to be is to be added here.
    assert_eq!(
        tables_with(&operator, &world, &ids).await,
        [
            "connection_checks",
            "findings",
            "provider_finding_states",
            "provider_group_memberships",
            "providers",
            "quarantined_findings",
            "requested_scans",
            "resource_finding_mappings",
            "resource_tag_mappings",
            "resources",
            "scans",
            "schedule_providers",
            "schedule_slots",
        ]
    );
    let tags = "select string_agg(key || ':' || value, ',' order by value) from resource_tags";
    assert_eq!(operator.sql(tags).await, "only:p,only:q,both:x");
    operator.deletes::<Provider>(&world.namespace, "p").await;
    assert_eq!(tables_with(&operator, &world, &ids).await, [""; 0]);
    assert_eq!(operator.sql(tags).await, "only:q,both:x");
    for (table, rows) in [
        ("findings", 10),
        ("resources", 2),
        ("resource_finding_mappings", 10),
        ("resource_tag_mappings", 3),
        ("provider_finding_states", 1),
        ("quarantined_findings", 1),
        ("scan_requests", 1),
        ("requested_scans", 1),
        ("scans", 2),
        ("providers", 1),
        ("schedule_providers", 1),
        ("provider_groups", 2),
        ("roles", 1),
    ] {
        assert_eq!(operator.count(table).await, rows, "{table}");
    }
}

/// Findings of the Provider's published scan and resources with a tag of their own, by hand.
async fn many_rows(operator: &Operator, findings: u32, resources: u32) {
    partitions::ensure_months(&operator.cx.admin, operator.clock.now(), 1)
        .await
        .unwrap();
    let sql = format!(
        "insert into resources (tenant_id, id, provider_id, uid, digest)
           select p.tenant_id, gen_random_uuid(), p.id, 'r' || n, ''
           from providers p, generate_series(1, {resources}) n where p.name = 'p';
         insert into resource_tags (tenant_id, id, key, value)
           select tenant_id, gen_random_uuid(), 'k', 'v' from providers where name = 'p';
         insert into resource_tag_mappings (tenant_id, resource_id, tag_id)
           select r.tenant_id, r.id, t.id from resources r, resource_tags t;
         insert into findings (tenant_id, id, scan_id, provider_id, uid, check_id, check_sha256,
             status, severity, first_seen_at)
           select s.tenant_id, (left(s.id::text, 13) || '-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
             s.id, s.provider_id, 'f' || n, 'c', '', 'FAIL', 'high', now()
           from scans s, generate_series(1, {findings}) n where s.published_attempt is not null;"
    );
    run(&mut operator.db.admin_conn().await, &sql).await;
}

async fn with_many_rows(operator: &Operator, findings: u32, resources: u32) -> World {
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    operator.running_scan(&world, "s", "p").await;
    operator.complete(&world, "s").await;
    many_rows(operator, findings, resources).await;
    operator.delete::<Provider>(&world.namespace, "p").await;
    world
}

async fn rows_left(operator: &Operator) -> i64 {
    operator.count("findings").await
        + operator.count("resources").await
        + operator.count("scans").await
        + operator.count("resource_tags").await
        + operator.count("providers").await
}

#[tokio::test]
async fn a_deletion_killed_between_batches_goes_on_where_it_was() {
    let mut operator = Operator::new().await;
    let world = with_many_rows(&operator, 12_000, 6_000).await;
    let mut left = rows_left(&operator).await;
    assert_eq!(left, 18_003);
    let mut passes = 0;
    while !operator.is_gone::<Provider>(&world.namespace, "p").await {
        // Far enough for a batch or two, not for all.
        operator.sql.arm(40, Fault::Hang);
        operator.pass::<Provider>(&world.namespace, "p").await;
        operator.sql.reset();
        if operator.is_dead() {
            operator.restart().await;
        }
        let now = rows_left(&operator).await;
        // A pass may end between the last row and the finalizer.
        assert!(now < left || now == 0, "{now} rows after {left}");
        left = now;
        passes += 1;
        println!("{left} rows left");
    }
    assert!(passes >= 3, "{passes}");
    assert_eq!(left, 0);
    assert_eq!(operator.count("resource_tags").await, 0);
    operator.settle(&world).await;
}

#[tokio::test]
async fn a_deletion_waits_for_the_database_says_so_and_ends() {
    let operator = Operator::new().await;
    let world = with_many_rows(&operator, 12_000, 10).await;
    operator.sql.arm(40, Fault::Refuse);
    operator.pass::<Provider>(&world.namespace, "p").await;
    let left = rows_left(&operator).await;
    assert!((1..12_000).contains(&left), "{left}");
    operator.sql.set_away(true);
    for _ in 0..4 {
        operator.pass::<Provider>(&world.namespace, "p").await;
    }
    assert_eq!(
        operator.says::<Provider>(&world.namespace, "p").await,
        "Terminating DatabaseUnavailable"
    );
    assert_eq!(rows_left(&operator).await, left);
    operator.database_returns().await;
    operator.follow::<Provider>(&world.namespace, "p").await;
    assert!(operator.is_gone::<Provider>(&world.namespace, "p").await);
    assert_eq!(rows_left(&operator).await, 0);
}

#[tokio::test]
async fn no_tag_is_left_though_the_resources_fill_their_last_batch() {
    let operator = Operator::new().await;
    let world = with_many_rows(&operator, 1, 5_000).await;
    operator.follow::<Provider>(&world.namespace, "p").await;
    assert!(operator.is_gone::<Provider>(&world.namespace, "p").await);
    assert_eq!(rows_left(&operator).await, 0);
    assert_eq!(operator.count("resource_tags").await, 0);
}

#[tokio::test]
async fn a_provider_goes_after_its_scan_s_pod_and_says_what_it_waits_for() {
    let operator = Operator::new().await;
    let world = operator.tenant().await;
    operator.provider(&world, "p", ACCOUNT).await;
    let job = operator.running_scan(&world, "s", "p").await;
    operator.pod(&job, scanning()).await;
    operator.delete::<Provider>(&world.namespace, "p").await;
    operator.pass::<Provider>(&world.namespace, "p").await;
    assert_eq!(
        operator.says::<Provider>(&world.namespace, "p").await,
        "Terminating Deleting"
    );
    assert_eq!(
        operator.message::<Provider>(&world.namespace, "p").await,
        "Waiting for the pods of 1 scans to end."
    );
    assert!(
        operator
            .is_gone::<Job>(&world.namespace, &job.name_any())
            .await
    );
    // It is gone from normal reads at once; its rows are not, as long as somebody may publish.
    assert_eq!(operator.count("active_providers").await, 0);
    assert_eq!(operator.count("scans").await, 1);
    operator.collect_garbage(&world).await;
    operator.follow::<Provider>(&world.namespace, "p").await;
    assert!(operator.is_gone::<Provider>(&world.namespace, "p").await);
    assert_eq!(operator.count("scans").await, 0);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Tenant,
    Namespace,
    Secret,
}

async fn goes(operator: &Operator, world: &World, step: Step) {
    let namespace = &world.namespace;
    match step {
        Step::Tenant => operator.delete::<Tenant>("", &world.tenant).await,
        Step::Secret => {
            let api: Api<Secret> = Api::namespaced(operator.client.clone(), namespace);
            // It may have gone with its namespace.
            let _ = api.delete("p-keys", &DeleteParams::default()).await;
        }
        Step::Namespace => {
            let api: Api<Namespace> = Api::all(operator.client.clone());
            api.delete(namespace, &DeleteParams::default())
                .await
                .unwrap();
            // What the namespace controller does from here on.
            let all = DeleteParams::background();
            let list = ListParams::default();
            macro_rules! every {
                ($($kind:ty),*) => {$(
                    let api: Api<$kind> = Api::namespaced(operator.client.clone(), namespace);
                    api.delete_collection(&all, &list).await.unwrap();
                )*};
            }
            every!(
                Provider,
                ProviderGroup,
                Role,
                ScanSchedule,
                Scan,
                Job,
                Secret
            );
        }
    }
}

#[tokio::test]
async fn whatever_goes_first_everything_goes() {
    let operator = Operator::new().await;
    for order in [
        [Step::Tenant, Step::Namespace, Step::Secret],
        [Step::Tenant, Step::Secret, Step::Namespace],
        [Step::Namespace, Step::Tenant, Step::Secret],
        [Step::Namespace, Step::Secret, Step::Tenant],
        [Step::Secret, Step::Tenant, Step::Namespace],
        [Step::Secret, Step::Namespace, Step::Tenant],
    ] {
        let world = operator.tenant().await;
        operator.provider(&world, "p", ACCOUNT).await;
        let group = json!({ "providerRefs": [{ "name": "p" }] });
        operator
            .apply::<ProviderGroup>(&world.namespace, "group", group)
            .await;
        let role = json!({ "providerGroupRefs": [{ "name": "group" }] });
        operator
            .apply::<Role>(&world.namespace, "auditor", role)
            .await;
        let schedule = json!({ "schedule": "0 2 * * *", "providerRefs": [{ "name": "p" }] });
        operator
            .apply::<ScanSchedule>(&world.namespace, "nightly", schedule)
            .await;
        let job = operator.running_scan(&world, "s", "p").await;
        operator.pod(&job, scanning()).await;
        operator.round(&world).await;
        operator.round(&world).await;
        for step in order {
            goes(&operator, &world, step).await;
            operator.round(&world).await;
            operator.round(&world).await;
        }
        operator.collect_garbage(&world).await;
        operator.settle(&world).await;
        assert!(
            operator.is_gone::<Tenant>("", &world.tenant).await,
            "{order:?}"
        );
        let left = operator.objects(&world).await;
        for kind in [
            "Provider",
            "ProviderGroup",
            "Role",
            "ScanSchedule",
            "Scan",
            "Job",
        ] {
            assert_eq!(left[kind], json!([]), "{order:?} {kind}");
        }
        let rows = operator.rows(operator.tenant_id(&world)).await;
        assert!(rows.is_empty(), "{order:?} {rows:#?}");
    }
}
