-- Who may do what, and to which groups of accounts.

create table roles (
    tenant_id uuid not null references tenants (id) on delete cascade,
    id uuid not null,
    namespace text not null,
    name text not null,
    manage_users boolean not null default false,
    manage_account boolean not null default false,
    manage_billing boolean not null default false,
    manage_providers boolean not null default false,
    manage_integrations boolean not null default false,
    manage_scans boolean not null default false,
    unlimited_visibility boolean not null default false,
    object_uid uuid,
    inserted_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    constraint unique_role_names unique (tenant_id, namespace, name)
);
create index roles_object_uid on roles (object_uid);
select protect('roles');

create table role_provider_group_relationship (
    tenant_id uuid not null,
    role_id uuid not null,
    provider_group_id uuid not null,
    inserted_at timestamptz not null default now(),
    primary key (tenant_id, role_id, provider_group_id),
    foreign key (tenant_id, role_id) references roles (tenant_id, id) on delete cascade,
    foreign key (tenant_id, provider_group_id)
        references provider_groups (tenant_id, id) on delete cascade
);
create index role_provider_group_relationship_group
    on role_provider_group_relationship (tenant_id, provider_group_id);
select protect('role_provider_group_relationship');

create table role_subjects (
    tenant_id uuid not null,
    role_id uuid not null,
    kind text not null check (kind in ('User', 'Group', 'ServiceAccount')),
    -- Only a ServiceAccount has one.
    namespace text not null default '',
    name text not null,
    inserted_at timestamptz not null default now(),
    primary key (tenant_id, role_id, kind, namespace, name),
    foreign key (tenant_id, role_id) references roles (tenant_id, id) on delete cascade
);
-- A caller's roles: one lookup per request.
create index role_subjects_subject on role_subjects (tenant_id, kind, name, namespace);
select protect('role_subjects');
