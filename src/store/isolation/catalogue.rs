//! Facts read from the system catalogue, without judgement. Any role may read them.

use sqlx::PgConnection;

use crate::store::StoreError;

/// A role this session is, or may become by SET ROLE or inheritance.
#[derive(Debug)]
pub(super) struct Role {
    pub name: String,
    pub is_current: bool,
    pub is_session: bool,
    /// `superuser`, `bypassrls`, `createrole`, `replication`; `owner` of the schema or of
    /// something in it.
    pub powers: Vec<String>,
}

impl Role {
    pub(super) fn has(&self, power: &str) -> bool {
        self.powers.iter().any(|own| own == power)
    }
}

pub(super) async fn reachable_roles(conn: &mut PgConnection) -> Result<Vec<Role>, StoreError> {
    Ok(sqlx::query_as!(
        Role,
        r#"select r.rolname::text as "name!", r.rolname = current_user as "is_current!",
               r.rolname = session_user as "is_session!",
               array_remove(array[
                   case when r.rolsuper then 'superuser' end,
                   case when r.rolbypassrls then 'bypassrls' end,
                   case when r.rolcreaterole then 'createrole' end,
                   case when r.rolreplication then 'replication' end,
                   case when exists (select from pg_namespace n
                                     where n.nspname = 'prowler' and n.nspowner = r.oid)
                          or exists (select from pg_class c
                                     where c.relnamespace = to_regnamespace('prowler')
                                       and c.relowner = r.oid) then 'owner' end
               ], null) as "powers!"
           from pg_roles r
           where pg_has_role(session_user, r.oid, 'member')
              or pg_has_role(current_user, r.oid, 'member')
           order by r.rolname"#
    )
    .fetch_all(conn)
    .await?)
}

/// A table, partition, view, materialized view, foreign table or sequence.
#[derive(Debug)]
pub(super) struct Relation {
    pub name: String,
    /// `pg_class.relkind`.
    pub kind: String,
    pub row_security: bool,
    pub forced: bool,
    pub options: Vec<String>,
    /// Type of the column that names the tenant, if it is there and not null.
    pub tenant_column: Option<String>,
    /// First column of the primary key.
    pub key_begins: Option<String>,
}

/// All of schema `prowler`, and partitions of its tables wherever they are.
pub(super) async fn relations(conn: &mut PgConnection) -> Result<Vec<Relation>, StoreError> {
    Ok(sqlx::query_as!(
        Relation,
        r#"select c.relname::text as "name!", c.relkind::text as "kind!",
               c.relrowsecurity as "row_security!", c.relforcerowsecurity as "forced!",
               coalesce(c.reloptions, '{}') as "options!",
               (select format_type(a.atttypid, null) from pg_attribute a
                where a.attrelid = c.oid and a.attnum > 0 and a.attnotnull and a.attname =
                      case c.relname when 'tenants' then 'id' else 'tenant_id' end)
                   as tenant_column,
               (select a.attname::text from pg_index i
                join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
                where i.indrelid = c.oid and i.indisprimary) as key_begins
           from pg_class c
           where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
             and (c.relnamespace = to_regnamespace('prowler')
                  or exists (select from pg_partition_ancestors(c.oid) a
                             join pg_class p on p.oid = a.relid
                             where p.relnamespace = to_regnamespace('prowler')))
           order by c.relname"#
    )
    .fetch_all(conn)
    .await?)
}

/// A row security policy.
#[derive(Debug)]
pub(super) struct Policy {
    pub table: String,
    pub name: String,
    /// `pg_policy.polcmd`: r, a, w, d or *.
    pub command: String,
    pub permissive: bool,
    /// Role names; `public` for everyone.
    pub roles: Vec<String>,
    pub using: Option<String>,
    pub check: Option<String>,
}

pub(super) async fn policies(conn: &mut PgConnection) -> Result<Vec<Policy>, StoreError> {
    Ok(sqlx::query_as!(
        Policy,
        r#"select c.relname::text as "table!", p.polname::text as "name!",
               p.polcmd::text as "command!", p.polpermissive as "permissive!",
               array(select coalesce(r.rolname::text, 'public')
                     from unnest(p.polroles) as o (oid) left join pg_roles r using (oid)
                     order by 1) as "roles!",
               pg_get_expr(p.polqual, p.polrelid) as using,
               pg_get_expr(p.polwithcheck, p.polrelid) as check
           from pg_policy p
           join pg_class c on c.oid = p.polrelid
           where c.relnamespace = to_regnamespace('prowler')
              or exists (select from pg_partition_ancestors(c.oid) a
                         join pg_class parent on parent.oid = a.relid
                         where parent.relnamespace = to_regnamespace('prowler'))
           order by 1, 2"#
    )
    .fetch_all(conn)
    .await?)
}

/// A privilege somebody other than the owner has.
#[derive(Debug)]
pub(super) struct Grant {
    /// `schema`, `function`, `column`, or `pg_class.relkind`.
    pub kind: String,
    pub object: String,
    /// `public` for everyone.
    pub grantee: String,
    pub privilege: String,
}

pub(super) async fn grants(conn: &mut PgConnection) -> Result<Vec<Grant>, StoreError> {
    Ok(sqlx::query_as!(
        Grant,
        r#"with granted as (
               select 'schema' as kind, n.nspname::text as object, n.nspowner as owner,
                      (aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner)))).*
               from pg_namespace n where n.nspname = 'prowler'
               union all
               select 'function', f.proname::text, f.proowner,
                      (aclexplode(coalesce(f.proacl, acldefault('f', f.proowner)))).*
               from pg_proc f where f.pronamespace = to_regnamespace('prowler')
               union all
               select c.relkind::text, c.relname::text, c.relowner,
                      (aclexplode(coalesce(c.relacl,
                           acldefault(case c.relkind when 'S' then 's' else 'r' end::"char",
                                      c.relowner)))).*
               from pg_class c
               where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
                 and (c.relnamespace = to_regnamespace('prowler')
                      or exists (select from pg_partition_ancestors(c.oid) a
                                 join pg_class p on p.oid = a.relid
                                 where p.relnamespace = to_regnamespace('prowler')))
               union all
               select 'column', c.relname::text || '.' || a.attname::text, c.relowner,
                      (aclexplode(a.attacl)).*
               from pg_class c join pg_attribute a on a.attrelid = c.oid
               where c.relnamespace = to_regnamespace('prowler') and a.attacl is not null
           )
           select kind as "kind!", object as "object!",
                  coalesce(r.rolname::text, 'public') as "grantee!",
                  lower(privilege_type) as "privilege!"
           from granted left join pg_roles r on r.oid = granted.grantee
           where granted.grantee <> granted.owner
           order by 1, 2, 3, 4"#
    )
    .fetch_all(conn)
    .await?)
}

/// A function of schema `prowler`.
#[derive(Debug)]
pub(super) struct Function {
    pub name: String,
    pub definer: bool,
    pub settings: Vec<String>,
}

pub(super) async fn functions(conn: &mut PgConnection) -> Result<Vec<Function>, StoreError> {
    Ok(sqlx::query_as!(
        Function,
        r#"select proname::text as "name!", prosecdef as "definer!",
               coalesce(proconfig, '{}') as "settings!"
           from pg_proc where pronamespace = to_regnamespace('prowler') order by 1"#
    )
    .fetch_all(conn)
    .await?)
}

/// An index of a table; those of partitions that come from their parent are left out.
#[derive(Debug)]
pub(super) struct Index {
    pub name: String,
    pub table: String,
    pub begins: Option<String>,
}

pub(super) async fn indexes(conn: &mut PgConnection) -> Result<Vec<Index>, StoreError> {
    Ok(sqlx::query_as!(
        Index,
        r#"select x.relname::text as "name!", t.relname::text as "table!",
               a.attname::text as begins
           from pg_index i
           join pg_class x on x.oid = i.indexrelid
           join pg_class t on t.oid = i.indrelid
           left join pg_attribute a on a.attrelid = t.oid and a.attnum = i.indkey[0]
           where t.relnamespace = to_regnamespace('prowler') and not x.relispartition
           order by 2, 1"#
    )
    .fetch_all(conn)
    .await?)
}

/// A foreign key.
#[derive(Debug)]
pub(super) struct Reference {
    pub name: String,
    pub table: String,
    pub target: String,
    pub target_partitioned: bool,
    /// First column on either side.
    pub from: String,
    pub to: String,
}

pub(super) async fn references(conn: &mut PgConnection) -> Result<Vec<Reference>, StoreError> {
    Ok(sqlx::query_as!(
        Reference,
        r#"select k.conname::text as "name!", t.relname::text as "table!",
               f.relname::text as "target!", f.relkind = 'p' as "target_partitioned!",
               a.attname::text as "from!", b.attname::text as "to!"
           from pg_constraint k
           join pg_class t on t.oid = k.conrelid
           join pg_class f on f.oid = k.confrelid
           join pg_attribute a on a.attrelid = t.oid and a.attnum = k.conkey[1]
           join pg_attribute b on b.attrelid = f.oid and b.attnum = k.confkey[1]
           where k.contype = 'f' and t.relnamespace = to_regnamespace('prowler')
           order by 2, 1"#
    )
    .fetch_all(conn)
    .await?)
}

/// A relation the canary tries.
#[derive(Debug)]
pub(super) struct Target {
    pub name: String,
    /// Schema and name, quoted.
    pub place: String,
    /// `pg_class.relkind`.
    pub kind: String,
    /// The column that names the tenant, quoted; none in a view.
    pub key: Option<String>,
    /// Another column, quoted, that is never null and decides no partition.
    pub required: Option<String>,
    /// Of a partitioned table: the column that decides the partition, quoted, and where the
    /// earliest partition begins.
    pub route: Option<String>,
    pub bound: Option<String>,
}

/// Everything that holds or shows rows of tenants: tables with a tenant, partitions, views.
pub(super) async fn targets(conn: &mut PgConnection) -> Result<Vec<Target>, StoreError> {
    Ok(sqlx::query_as!(
        Target,
        r#"select c.relname::text as "name!", format('%I.%I', n.nspname, c.relname) as "place!",
               c.relkind::text as "kind!", quote_ident(k.attname) as key,
               (select quote_ident(min(a.attname)) from pg_attribute a
                where a.attrelid = c.oid and a.attnum > 0 and a.attnotnull and a.attname <> k.attname
                  and a.attidentity = '' and a.attgenerated = '' and a.attname not in (
                      select b.attname from pg_partition_ancestors(c.oid) o
                      join pg_partitioned_table p on p.partrelid = o.relid
                      join pg_attribute b on b.attrelid = p.partrelid
                       and b.attnum = any (p.partattrs::int2[]))) as required,
               (select quote_ident(a.attname) from pg_partitioned_table p
                join pg_attribute a on a.attrelid = c.oid and a.attnum = p.partattrs[0]
                where p.partrelid = c.oid) as route,
               (select min(substring(pg_get_expr(b.relpartbound, b.oid)
                                     from '''([0-9a-f-]{36})'''))
                from pg_inherits i join pg_class b on b.oid = i.inhrelid
                where i.inhparent = c.oid) as bound
           from pg_class c
           join pg_namespace n on n.oid = c.relnamespace
           left join pg_attribute k on k.attrelid = c.oid and k.attnum > 0 and not k.attisdropped
                and c.relkind in ('r', 'p') and k.atttypid = 'uuid'::regtype and k.attname =
                    case c.relname when 'tenants' then 'id' else 'tenant_id' end
           where (n.nspname = 'prowler'
                  or exists (select from pg_partition_ancestors(c.oid) a
                             join pg_class p on p.oid = a.relid
                             where p.relnamespace = to_regnamespace('prowler')))
             and (c.relkind in ('v', 'm', 'f') or k.attname is not null)
           order by c.relname"#
    )
    .fetch_all(conn)
    .await?)
}
