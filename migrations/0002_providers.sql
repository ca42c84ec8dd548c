-- Accounts to scan, and the groups that say who may see them.
--
-- Every key, reference and index of a tenant table begins with tenant_id. A foreign key on the
-- id alone would accept another tenant's row: Postgres checks references without policies.

create table providers (
    tenant_id uuid not null references tenants (id) on delete cascade,
    id uuid not null,
    provider text not null check (provider in (
        'aws', 'azure', 'gcp', 'kubernetes', 'm365', 'github', 'mongodbatlas', 'iac',
        'oraclecloud', 'alibabacloud', 'cloudflare', 'openstack', 'image', 'googleworkspace',
        'vercel', 'okta')),
    uid text not null check (char_length(uid) between 3 and 250),
    alias text,
    connected boolean,
    connection_last_checked_at timestamptz,
    metadata jsonb not null default '{}',
    scanner_args jsonb not null default '{}',
    -- Where the credentials are (names of Kubernetes objects), never what they are.
    credentials jsonb,
    labels jsonb not null default '{}',
    deletion_policy text not null default 'Delete' check (deletion_policy in ('Delete', 'Retain')),
    suspend boolean not null default false,
    is_deleted boolean not null default false,
    deleted_at timestamptz,
    -- Its object went under deletionPolicy Retain: the rows stay, detached.
    retained boolean not null default false,
    object_uid uuid,
    namespace text not null default '',
    name text not null default '',
    generation bigint not null default 0,
    -- Hash over everything taken from the object: equal means nothing to write.
    fingerprint bigint not null default 0,
    inserted_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id)
);
-- A deleted account may be declared again while the old row is still being removed.
create unique index unique_provider_uids on providers (tenant_id, provider, uid)
    where not is_deleted;
-- Deletion finds the tenant by the object's uid, across tenants.
create index providers_object_uid on providers (object_uid);
select protect('providers');

create table provider_groups (
    tenant_id uuid not null references tenants (id) on delete cascade,
    id uuid not null,
    namespace text not null,
    name text not null,
    object_uid uuid,
    inserted_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    constraint unique_provider_group_names unique (tenant_id, namespace, name)
);
create index provider_groups_object_uid on provider_groups (object_uid);
select protect('provider_groups');

create table provider_group_memberships (
    tenant_id uuid not null,
    provider_id uuid not null,
    provider_group_id uuid not null,
    inserted_at timestamptz not null default now(),
    primary key (tenant_id, provider_id, provider_group_id),
    foreign key (tenant_id, provider_id) references providers (tenant_id, id) on delete cascade,
    foreign key (tenant_id, provider_group_id)
        references provider_groups (tenant_id, id) on delete cascade
);
create index provider_group_memberships_group
    on provider_group_memberships (tenant_id, provider_group_id);
select protect('provider_group_memberships');

create view active_providers with (security_invoker = true) as
    select p.* from providers p where not p.is_deleted;
grant select on active_providers to prowler_user;
