-- Tenants, and the rule every later table obeys.
--
-- Runs as `prowler_admin`, owner of schema `prowler` and first on the search_path. The schema
-- and `_sqlx_migrations` exist already: the `migrate` subcommand makes them.

revoke all on schema prowler from public;
grant usage on schema prowler to prowler_user;

-- Postgres lets everyone execute a new function. Ours are granted one by one.
alter default privileges revoke execute on functions from public;

-- The program compares the schema's version with its own before it touches a row.
grant select on _sqlx_migrations to prowler_user;

-- protect(table): row-level security as the whole program relies on it. Called for every tenant
-- table and for every partition, because a parent's policies do not protect a direct read of a
-- partition. Calling it again brings a table back to exactly this state.
--
-- * `force` binds the owner too, so that neither a view nor a definer function sees more than
--   the policies say.
-- * The expression is a sub-select so that it is computed once a statement and can use an
--   index; `nullif` because a pooled connection keeps the empty string after the transaction
--   that set a tenant: absent and empty both mean no row.
-- * `prowler_admin` passes by a policy, not by BYPASSRLS, which managed Postgres does not give.
-- * Only the listed commands are granted; TRUNCATE, which ignores policies, never is.
create function protect(
    target regclass,
    commands text[] default array['select', 'insert', 'update', 'delete'],
    key_column name default 'tenant_id'
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    bare name := (select c.relname from pg_class c where c.oid = target);
    own_rows text := format(
        '%I = (select nullif(current_setting(''api.tenant_id'', true), '''')::uuid)', key_column);
    command text;
    old record;
begin
    execute format('alter table %s enable row level security', target);
    execute format('alter table %s force row level security', target);
    for old in select p.polname from pg_policy p where p.polrelid = target loop
        execute format('drop policy %I on %s', old.polname, target);
    end loop;
    execute format('revoke all on %s from public, prowler_user', target);

    foreach command in array commands loop
        execute format(
            'create policy %I on %s for %s to prowler_user %s',
            bare || '_' || command, target, command,
            case command
                when 'select' then format('using (%s)', own_rows)
                when 'delete' then format('using (%s)', own_rows)
                when 'insert' then format('with check (%s)', own_rows)
                when 'update' then format('using (%s) with check (%s)', own_rows, own_rows)
            end);
        execute format('grant %s on %s to prowler_user', command, target);
    end loop;
    execute format(
        'create policy %I on %s to prowler_admin using (true) with check (true)',
        bare || '_admin', target);
end
$$;

-- Which installation this database belongs to; every derived id hangs on it (one row).
create table installation (
    singleton boolean primary key default true check (singleton),
    id uuid not null,
    inserted_at timestamptz not null default now()
);
grant select on installation to prowler_user;

-- Who acts for this database, and when it last said so. Advice for take-overs, never a fence.
create table leases (
    name text primary key,
    holder text not null,
    renewed_at timestamptz not null default now()
);

-- A tenant is itself the boundary: the same policies, on its id.
create table tenants (
    id uuid primary key,
    name text not null,
    display_name text not null default '',
    object_uid uuid,
    deletion_policy text not null default 'Delete' check (deletion_policy in ('Delete', 'Retain')),
    suspend boolean not null default false,
    concurrent_scans integer not null default 1 check (concurrent_scans >= 0),
    max_providers integer not null default 100 check (max_providers >= 0),
    spec jsonb not null default '{}',
    is_deleted boolean not null default false,
    deleted_at timestamptz,
    inserted_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
select protect('tenants', key_column => 'id');

-- The claim of a namespace: the row decides which tenant an object belongs to, so nobody bound
-- by policies may read or write it.
create table tenant_namespaces (
    namespace text primary key,
    tenant_id uuid not null references tenants (id) on delete cascade,
    since timestamptz not null default now()
);
create index tenant_namespaces_tenant on tenant_namespaces (tenant_id);

-- What normal reads see. `security_invoker`: a view is otherwise read with its owner's rights.
create view active_tenants with (security_invoker = true) as
    select t.* from tenants t where not t.is_deleted;
grant select on active_tenants to prowler_user;
