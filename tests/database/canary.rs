//! The isolation canary: silent where tenants are kept apart, and loud about each single wall that
//! is taken down.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use prowler_operator::store::isolation::canary::{self, Findings, Setting};
use prowler_operator::store::{AdminStore, Store, StoreError, partitions};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::seed::{self, Relation};
use crate::support::db::{Db, run};

const A: Uuid = Uuid::from_u128(0xa);
const B: Uuid = Uuid::from_u128(0xb);

/// A database with two months and two tenants, each with a row in every table.
struct Site {
    db: Db,
    store: Store,
    admin: AdminStore,
    owner: PgConnection,
    relations: Vec<Relation>,
}

impl Site {
    async fn new() -> Self {
        Self::on(Db::new().await).await
    }

    async fn on(db: Db) -> Self {
        let admin = db.admin().await;
        let month: Timestamp = "2026-11-05T00:00:00Z".parse().unwrap();
        partitions::ensure_months(&admin, month, 2).await.unwrap();
        let mut owner = db.admin_conn().await;
        let relations = seed::relations(&mut owner).await;
        seed::fill(&mut owner, &relations, [A, B]).await;
        Self {
            store: db.store().await,
            admin,
            owner,
            relations,
            db,
        }
    }

    async fn probe(&self) -> Result<Findings, StoreError> {
        canary::probe(&self.store, &self.admin).await
    }

    /// The breaches as (command, relation, setting), without order.
    async fn breaches(&self) -> BTreeSet<(String, String, String)> {
        let found = self.probe().await.unwrap();
        found
            .breaches
            .into_iter()
            .map(|breach| {
                let setting = format!("{:?}", breach.setting);
                (breach.command.to_owned(), breach.relation, setting)
            })
            .collect()
    }

    /// Rows of `resource_tags` that anybody has read so far, by scans of the whole table.
    async fn rows_read(&mut self) -> i64 {
        // Sessions tell what they did when they end, and once in a second.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        sqlx::query_scalar(
            "select seq_tup_read + idx_tup_fetch from pg_stat_user_tables
             where schemaname = 'prowler' and relname = 'resource_tags'",
        )
        .fetch_one(&mut self.owner)
        .await
        .unwrap()
    }

    /// Where each row lies, and which transaction wrote, deleted or locked it last.
    async fn versions(&mut self) -> Vec<String> {
        let tables = self.relations.iter().filter(|relation| {
            relation.kind == "r" && relation.key.is_some() && relation.name != "tenant_namespaces"
        });
        let queries: Vec<_> = tables
            .map(|relation| {
                let name = &relation.name;
                format!("select concat_ws(' ', '{name}', ctid, xmin, xmax) from {name}")
            })
            .collect();
        sqlx::query_scalar(AssertSqlSafe(queries.join(" union all ") + " order by 1"))
            .fetch_all(&mut self.owner)
            .await
            .unwrap()
    }
}

/// The settings in which every row is somebody else's.
const FROM_OUTSIDE: [Setting; 3] = [Setting::Absent, Setting::Empty, Setting::Nobody];

#[tokio::test]
async fn the_canary_reaches_nothing_and_touches_no_row_where_tenants_are_kept_apart() {
    let mut site = Site::new().await;
    let before = site.versions().await;
    assert!(before.len() > 40, "{before:?}");
    let found = site.probe().await.unwrap();
    assert_eq!(found.breaches, []);
    // Three settings, four commands and an aim at each table.
    let tables = site
        .relations
        .iter()
        .filter(|relation| matches!(relation.kind.as_str(), "r" | "p") && relation.key.is_some());
    let tables = tables.count();
    assert!(tables > 20);
    assert!(found.tries >= tables * 16, "{} of {tables}", found.tries);
    assert_eq!(site.versions().await, before);
}

#[tokio::test]
async fn a_table_that_is_new_is_tried_at_once() {
    let mut site = Site::new().await;
    run(
        &mut site.owner,
        "create table later (tenant_id uuid not null, id uuid, primary key (tenant_id, id));
         grant select, insert, update, delete on later to prowler_user",
    )
    .await;
    // Nothing is in it, and what could come would be everybody's.
    let expected = FROM_OUTSIDE.map(|setting| {
        (
            "insert".to_owned(),
            "later".to_owned(),
            format!("{setting:?}"),
        )
    });
    assert_eq!(site.breaches().await, BTreeSet::from(expected));
    run(&mut site.owner, "select protect('later')").await;
    assert_eq!(site.breaches().await, BTreeSet::new());
}

/// A wall that is taken down: how, what the canary must find (relation, commands, settings) and no
/// more, and what mends it.
struct Wall {
    down: &'static str,
    relation: &'static str,
    commands: &'static [&'static str],
    settings: &'static [Setting],
    up: &'static str,
}

const EVERYWHERE: &[Setting] = &[
    Setting::Absent,
    Setting::Empty,
    Setting::Nobody,
    Setting::Another,
];
const ALL: &[&str] = &["select", "insert", "update", "delete"];

const WALLS: &[Wall] = &[
    Wall {
        down: "create policy open on resources for select to prowler_user using (true)",
        relation: "resources",
        commands: &["select"],
        settings: EVERYWHERE,
        up: "drop policy open on resources",
    },
    Wall {
        down: "create policy open on resources for insert to prowler_user with check (true)",
        relation: "resources",
        commands: &["insert"],
        settings: EVERYWHERE,
        up: "drop policy open on resources",
    },
    // Where select is shut, a condition on a column still finds nothing; and what may be changed
    // may become anything.
    Wall {
        down: "create policy open on roles for update to prowler_user using (true)",
        relation: "roles",
        commands: &["update"],
        settings: &[
            Setting::Absent,
            Setting::Empty,
            Setting::Nobody,
            Setting::Owner,
        ],
        up: "drop policy open on roles",
    },
    Wall {
        down: "create policy open on roles for delete to prowler_user using (true)",
        relation: "roles",
        commands: &["delete"],
        settings: &FROM_OUTSIDE,
        up: "drop policy open on roles",
    },
    // Only rows of one's own can be changed, and become anybody's.
    Wall {
        down: "alter policy roles_update on roles with check (true)",
        relation: "roles",
        commands: &["update"],
        settings: &[Setting::Owner],
        up: "select protect('roles')",
    },
    // A parent's policies do not protect its partitions.
    Wall {
        down: "create policy open on findings_2026_dec for insert to prowler_user with check (true)",
        relation: "findings_2026_dec",
        commands: &["insert"],
        settings: EVERYWHERE,
        up: "select protect('findings_2026_dec')",
    },
    Wall {
        down: "create policy open on findings_2026_nov for select to prowler_user using (true)",
        relation: "findings_2026_nov",
        commands: &["select"],
        settings: EVERYWHERE,
        up: "select protect('findings_2026_nov')",
    },
    Wall {
        down: "create policy open on findings for insert to prowler_user with check (true)",
        relation: "findings",
        commands: &["insert"],
        settings: EVERYWHERE,
        up: "select protect('findings')",
    },
    // A pooled connection has an empty setting, a fresh one none; the policy's nullif is for both.
    Wall {
        down: "create policy open on scans for select to prowler_user
                 using (current_setting('api.tenant_id', true) = '')",
        relation: "scans",
        commands: &["select"],
        settings: &[Setting::Empty],
        up: "drop policy open on scans",
    },
    Wall {
        down: "create policy open on scans for select to prowler_user
                 using (current_setting('api.tenant_id', true) is null)",
        relation: "scans",
        commands: &["select"],
        settings: &[Setting::Absent],
        up: "drop policy open on scans",
    },
    // Any tenant that exists sees all.
    Wall {
        down: "create policy open on scans for select to prowler_user
                 using (coalesce(current_setting('api.tenant_id', true), '') <> ''
                        and exists (select from tenants))",
        relation: "scans",
        commands: &["select"],
        settings: &[Setting::Another],
        up: "drop policy open on scans",
    },
    Wall {
        down: "alter view active_resources set (security_invoker = false)",
        relation: "active_resources",
        commands: &["select"],
        settings: &FROM_OUTSIDE,
        up: "alter view active_resources set (security_invoker = true)",
    },
    Wall {
        down: "grant select on tenant_namespaces to prowler_user",
        relation: "tenant_namespaces",
        commands: &["select"],
        settings: EVERYWHERE,
        up: "revoke select on tenant_namespaces from prowler_user",
    },
    Wall {
        down: "alter table provider_groups disable row level security",
        relation: "provider_groups",
        commands: ALL,
        settings: EVERYWHERE,
        up: "select protect('provider_groups')",
    },
    Wall {
        down: "alter table tenants disable row level security",
        relation: "tenants",
        commands: ALL,
        settings: EVERYWHERE,
        up: "select protect('tenants', key_column => 'id')",
    },
    Wall {
        down: "alter table findings_2026_nov disable row level security",
        relation: "findings_2026_nov",
        commands: ALL,
        settings: EVERYWHERE,
        up: "select protect('findings_2026_nov')",
    },
];

#[tokio::test]
async fn each_wall_that_is_taken_down_is_found_and_no_other_and_the_mended_one_is_not() {
    let mut site = Site::new().await;
    run(
        &mut site.owner,
        "insert into tenant_namespaces (namespace, tenant_id) select 'n-' || id, id from tenants",
    )
    .await;
    for wall in WALLS {
        let before = site.versions().await;
        run(&mut site.owner, wall.down).await;
        let mut expected = BTreeSet::new();
        for command in wall.commands {
            for setting in wall.settings {
                let relation = wall.relation.to_owned();
                expected.insert(((*command).to_owned(), relation, format!("{setting:?}")));
            }
        }
        if wall.commands == ALL {
            // And a row of one's own can be given away.
            let own = format!("{:?}", Setting::Owner);
            expected.insert(("update".to_owned(), wall.relation.to_owned(), own));
        }
        let mut found = site.breaches().await;
        if wall.down.contains("disable") {
            // Whatever hangs on it by a view is open through the view as well.
            found.retain(|(_, relation, _)| !relation.starts_with("active_"));
        }
        assert_eq!(found, expected, "{}", wall.down);
        assert_eq!(site.versions().await, before, "{}", wall.down);
        run(&mut site.owner, wall.up).await;
        assert_eq!(site.breaches().await, BTreeSet::new(), "{}", wall.up);
    }
}

#[tokio::test]
async fn one_tenant_alone_is_enough_to_find_a_broken_wall() {
    let mut site = Site::new().await;
    run(
        &mut site.owner,
        "delete from resource_finding_mappings where tenant_id = '00000000-0000-0000-0000-00000000000b';
         delete from findings where tenant_id = '00000000-0000-0000-0000-00000000000b';
         delete from resource_tag_mappings where tenant_id = '00000000-0000-0000-0000-00000000000b';
         delete from resources where tenant_id = '00000000-0000-0000-0000-00000000000b';
         delete from tenants where id = '00000000-0000-0000-0000-00000000000b'",
    )
    .await;
    assert_eq!(site.breaches().await, BTreeSet::new());
    run(
        &mut site.owner,
        "create policy open on resources for select to prowler_user using (true)",
    )
    .await;
    assert_eq!(site.breaches().await.len(), 4);
}

#[tokio::test]
async fn a_role_that_steps_around_all_walls_is_found_at_once() {
    // Roles are the whole server's.
    let site = Site::on(Db::alone().await).await;
    let mut superuser = site.db.superuser_conn().await;
    run(&mut superuser, "alter role prowler_user bypassrls").await;
    let found = site.breaches().await;
    assert!(found.len() > 300, "{}", found.len());
    run(&mut superuser, "alter role prowler_user nobypassrls").await;
    assert_eq!(site.breaches().await, BTreeSet::new());
    // A tenant that every session has without asking for it.
    let statement = format!(
        "alter role prowler_user in database {} set api.tenant_id = '{B}'",
        site.db.name()
    );
    run(&mut superuser, &statement).await;
    let settings: BTreeSet<_> = site
        .breaches()
        .await
        .into_iter()
        .map(|(_, _, setting)| setting)
        .collect();
    assert_eq!(settings, BTreeSet::from(["Absent".to_owned()]));
}

#[tokio::test]
async fn rows_that_others_have_locked_are_neither_waited_for_nor_touched() {
    let mut site = Site::new().await;
    run(
        &mut site.owner,
        "alter table resources disable row level security",
    )
    .await;
    let mut other = site.db.admin_conn().await;
    run(&mut other, "begin; select 1 from resources for update").await;
    let versions = site.versions().await;
    let found = site.breaches().await;
    assert!(found.contains(&("delete".into(), "resources".into(), "Absent".into())));
    assert_eq!(site.versions().await, versions);
}

#[tokio::test]
async fn a_table_that_cannot_be_tried_leaves_the_answer_open_unless_another_is_broken() {
    let mut site = Site::new().await;
    let mut other = site.db.admin_conn().await;
    run(&mut other, "begin; lock table mute_rules in share mode").await;
    let begun = Instant::now();
    let error = site.probe().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    // Sooner than any other session of ours gives a lock up.
    assert!(begun.elapsed() < Duration::from_secs(30));
    run(
        &mut site.owner,
        "create policy open on resources for select to prowler_user using (true)",
    )
    .await;
    assert_eq!(site.breaches().await.len(), 4);
    run(&mut other, "rollback").await;
    run(&mut site.owner, "drop policy open on resources").await;
    assert_eq!(site.breaches().await, BTreeSet::new());
}

#[tokio::test]
async fn a_database_that_is_away_is_no_answer() {
    let site = Site::on(Db::alone().await).await;
    site.db.server().stop();
    assert!(site.probe().await.is_err());
    site.db.server().start_again().await;
    // The pool has connections of before, and throws them away one by one.
    let mut found = site.probe().await;
    for _ in 0..10 {
        if found.is_err() {
            found = site.probe().await;
        }
    }
    assert_eq!(found.unwrap().breaches, []);
}

#[tokio::test]
async fn a_breach_names_a_table_and_no_tenant() {
    let mut site = Site::new().await;
    run(
        &mut site.owner,
        "create policy open on resources for select to prowler_user using (true)",
    )
    .await;
    let found = site.probe().await.unwrap();
    let told: Vec<_> = found.breaches.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "select on resources with no tenant set",
            "select on resources with an empty tenant set",
            "select on resources as a tenant that does not exist",
            "select on resources as another tenant",
        ]
    );
}

#[tokio::test]
async fn many_rows_of_one_tenant_are_not_read_through() {
    let mut site = Site::new().await;
    run(
        &mut site.owner,
        "insert into resource_tags (tenant_id, id, key, value)
           select '00000000-0000-0000-0000-00000000000a', gen_random_uuid(), 'k' || n, 'v'
           from generate_series(1, 200000) n; analyze resource_tags",
    )
    .await;
    let before = site.rows_read().await;
    assert_eq!(site.breaches().await, BTreeSet::new());
    let read = site.rows_read().await - before;
    // A few for the catalogue's own doings; not the table, once for each try.
    assert!(read < 10_000, "{read} rows were read");
}
