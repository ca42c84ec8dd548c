//! One row a tenant in every table and partition, made from the catalogue alone.
//!
//! A new table is seeded without a word here, unless its checks ask for more than types,
//! lists of values and references say: then the test fails and [`OVERRIDES`] wants a line.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

/// Values that no catalogue tells: (table, column, SQL).
const OVERRIDES: [(&str, &str, &str); 2] = [
    ("schedules", "interval_seconds", "3600"),
    ("schedule_slots", "state", "'superseded'"),
];

/// References that views join by and no foreign key holds: (table, target, column). The first
/// column on both sides is the tenant, the second of the target its id.
const UNCHECKED: [(&str, &str, &str); 2] = [
    ("findings", "providers", "provider_id"),
    ("resources", "providers", "provider_id"),
];

/// A relation of schema `prowler` that holds or shows rows.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Relation {
    pub name: String,
    /// `pg_class.relkind`.
    pub kind: String,
    /// The partitioned table it belongs to.
    pub parent: Option<String>,
    /// `FOR VALUES …` of a partition.
    pub bound: Option<String>,
    /// The column that names the tenant, if it has one.
    pub key: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Column {
    name: String,
    of: String,
    required: bool,
    checks: Vec<String>,
}

#[derive(sqlx::FromRow)]
struct Reference {
    target: String,
    from: Vec<String>,
    to: Vec<String>,
}

pub async fn relations(conn: &mut PgConnection) -> Vec<Relation> {
    sqlx::query_as(
        "select c.relname::text as name, c.relkind::text as kind,
                (select p.relname::text from pg_inherits i join pg_class p on p.oid = i.inhparent
                 where i.inhrelid = c.oid) as parent,
                pg_get_expr(c.relpartbound, c.oid) as bound,
                (select a.attname::text from pg_attribute a
                 where a.attrelid = c.oid and not a.attisdropped and a.attname =
                       case when c.relname in ('tenants', 'active_tenants')
                            then 'id' else 'tenant_id' end) as key
         from pg_class c
         where c.relnamespace = 'prowler'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
         order by c.relname",
    )
    .fetch_all(conn)
    .await
    .unwrap()
}

/// Inserts the rows, as a role that may.
pub async fn fill(conn: &mut PgConnection, relations: &[Relation], tenants: [Uuid; 2]) {
    let mut counter = 0;
    // For each tenant, the first row of each table, as column → SQL literal.
    let mut rows: BTreeMap<(Uuid, String), BTreeMap<String, String>> = BTreeMap::new();
    let mut waiting: Vec<&Relation> = relations
        .iter()
        .filter(|relation| matches!(relation.kind.as_str(), "r" | "p"))
        .filter(|relation| relation.parent.is_none())
        .filter(|relation| relation.key.is_some() && relation.name != "tenant_namespaces")
        .collect();
    let mut seeded = BTreeSet::new();
    while !waiting.is_empty() {
        let before = seeded.len();
        let mut stuck = Vec::new();
        for relation in std::mem::take(&mut waiting) {
            let references = references(conn, &relation.name).await;
            if !references
                .iter()
                .all(|other| seeded.contains(&other.target))
            {
                stuck.push(relation);
                continue;
            }
            let columns = columns(conn, &relation.name).await;
            for tenant in tenants {
                for bound in bounds(relations, relation) {
                    let mut row = BTreeMap::new();
                    for reference in &references {
                        let target = &rows[&(tenant, reference.target.clone())];
                        for (from, to) in reference.from.iter().zip(&reference.to) {
                            row.insert(from.clone(), target[to].clone());
                        }
                    }
                    let key = relation.key.clone().unwrap();
                    row.insert(key, format!("'{tenant}'"));
                    for column in &columns {
                        counter += 1;
                        let own = OVERRIDES
                            .iter()
                            .find(|(table, name, _)| {
                                *table == relation.name && *name == column.name
                            })
                            .map(|(_, _, value)| (*value).to_owned());
                        if let Some(value) = own {
                            row.insert(column.name.clone(), value);
                        } else if column.required && !row.contains_key(&column.name) {
                            row.insert(column.name.clone(), value(column, bound, counter));
                        }
                    }
                    insert(conn, &relation.name, &row).await;
                    rows.entry((tenant, relation.name.clone())).or_insert(row);
                }
            }
            seeded.insert(relation.name.clone());
        }
        assert!(
            seeded.len() > before,
            "these tables refer to one another in a circle: {stuck:?}"
        );
        waiting = stuck;
    }
}

/// A smallest id for each partition; one without meaning for a plain table.
fn bounds(relations: &[Relation], relation: &Relation) -> Vec<Uuid> {
    if relation.kind != "p" {
        return vec![Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000)];
    }
    let first = Regex::new(r"FROM \('([0-9a-f-]+)'\)").unwrap();
    relations
        .iter()
        .filter(|part| part.parent.as_ref() == Some(&relation.name))
        .map(|part| {
            let bound = part.bound.as_deref().unwrap_or_default();
            first.captures(bound).unwrap()[1].parse().unwrap()
        })
        .collect()
}

fn value(column: &Column, bound: Uuid, counter: u32) -> String {
    let listed = Regex::new(r"ARRAY\['([^']*)'::text").unwrap();
    for check in &column.checks {
        if let Some(found) = listed.captures(check) {
            return format!("'{}'", &found[1]);
        }
    }
    match column.of.as_str() {
        "uuid" => format!(
            "'{}'",
            Uuid::from_u128(bound.as_u128() + u128::from(counter))
        ),
        "text" => format!("'value {counter}'"),
        "bytea" => format!("decode(lpad(to_hex({counter}), 64, '0'), 'hex')"),
        "smallint" | "integer" | "bigint" | "numeric" | "double precision" => "1".to_owned(),
        "boolean" => "false".to_owned(),
        "json" | "jsonb" => "'{}'".to_owned(),
        "date" | "timestamp with time zone" => "'2026-11-05'".to_owned(),
        array if array.ends_with("[]") => "'{}'".to_owned(),
        other => unreachable!("the seed does not know the type {other}: teach it"),
    }
}

async fn insert(conn: &mut PgConnection, table: &str, row: &BTreeMap<String, String>) {
    let names: Vec<_> = row.keys().map(|name| format!("{name:?}")).collect();
    let values: Vec<_> = row.values().cloned().collect();
    let sql = format!(
        "insert into {table} ({}) values ({})",
        names.join(", "),
        values.join(", ")
    );
    if let Err(error) = sqlx::query(AssertSqlSafe(sql.clone())).execute(conn).await {
        unreachable!("{table} needs a line in OVERRIDES of tests/database/seed.rs: {error}\n{sql}");
    }
}

async fn columns(conn: &mut PgConnection, table: &str) -> Vec<Column> {
    sqlx::query_as(
        "select a.attname::text as name, format_type(a.atttypid, null) as of,
                a.attnotnull and not a.atthasdef and a.attidentity = '' as required,
                array(select pg_get_constraintdef(k.oid) from pg_constraint k
                      where k.conrelid = a.attrelid and k.contype = 'c'
                        and k.conkey = array[a.attnum]) as checks
         from pg_attribute a
         where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped
         order by a.attnum",
    )
    .bind(table)
    .fetch_all(conn)
    .await
    .unwrap()
}

async fn references(conn: &mut PgConnection, table: &str) -> Vec<Reference> {
    let mut found: Vec<Reference> = sqlx::query_as(
        "select f.relname::text as target,
                array(select a.attname::text from unnest(k.conkey) with ordinality as n (num, at)
                      join pg_attribute a on a.attrelid = k.conrelid and a.attnum = n.num
                      order by n.at) as from,
                array(select a.attname::text from unnest(k.confkey) with ordinality as n (num, at)
                      join pg_attribute a on a.attrelid = k.confrelid and a.attnum = n.num
                      order by n.at) as to
         from pg_constraint k join pg_class f on f.oid = k.confrelid
         where k.contype = 'f' and k.conrelid = $1::text::regclass and k.conparentid = 0",
    )
    .bind(table)
    .fetch_all(conn)
    .await
    .unwrap();
    let unchecked = UNCHECKED.iter().filter(|(from, _, _)| *from == table);
    found.extend(unchecked.map(|(_, target, column)| Reference {
        target: (*target).to_owned(),
        from: vec!["tenant_id".to_owned(), (*column).to_owned()],
        to: vec!["tenant_id".to_owned(), "id".to_owned()],
    }));
    found
}
