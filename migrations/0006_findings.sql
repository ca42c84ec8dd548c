-- What scans found: resources, findings by month, and records set aside.
--
-- Findings are written by the hundred thousand and read by scan: few indexes, no foreign key per
-- row, text instead of jsonb for what is never searched, the constants of a check kept once.

create table resources (
    tenant_id uuid not null,
    -- Derived from provider and uid, so that a mapping needs no look-up.
    id uuid not null,
    provider_id uuid not null,
    uid text not null,
    name text not null default '',
    region text not null default '',
    service text not null default '',
    type text not null default '',
    metadata text,
    details text,
    partition text,
    groups text[] not null default '{}',
    failed_findings_count integer not null default 0,
    inserted_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    -- Not `cascade`: resources leave in batches, before their provider.
    foreign key (tenant_id, provider_id) references providers (tenant_id, id),
    constraint unique_resource_uids unique (tenant_id, provider_id, uid)
);
select protect('resources');

create table resource_tags (
    tenant_id uuid not null references tenants (id) on delete cascade,
    id uuid not null,
    key text not null,
    value text not null,
    inserted_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    constraint unique_resource_tags unique (tenant_id, key, value)
);
select protect('resource_tags');

create table resource_tag_mappings (
    tenant_id uuid not null,
    resource_id uuid not null,
    tag_id uuid not null,
    primary key (tenant_id, resource_id, tag_id),
    foreign key (tenant_id, resource_id) references resources (tenant_id, id) on delete cascade,
    foreign key (tenant_id, tag_id) references resource_tags (tenant_id, id) on delete cascade
);
create index resource_tag_mappings_tag on resource_tag_mappings (tenant_id, tag_id);
select protect('resource_tag_mappings');

-- The constants of a check: four fifths of a finding's bytes when kept in each row.
create table check_metadata (
    tenant_id uuid not null references tenants (id) on delete cascade,
    check_id text not null check (char_length(check_id) <= 100),
    sha256 bytea not null check (octet_length(sha256) = 32),
    metadata jsonb not null,
    inserted_at timestamptz not null default now(),
    primary key (tenant_id, check_id, sha256)
);
select protect('check_metadata');

-- By month of the id, whose time is that of the scan's id: all findings of a scan lie together.
-- No default partition, and no foreign key to or from.
create table findings (
    tenant_id uuid not null,
    id uuid not null,
    scan_id uuid not null,
    provider_id uuid not null,
    uid text not null check (char_length(uid) <= 300),
    check_id text not null,
    check_sha256 bytea not null,
    status text not null check (status in ('FAIL', 'PASS', 'MANUAL')),
    status_extended text,
    severity text not null
        check (severity in ('critical', 'high', 'medium', 'low', 'informational')),
    delta text check (delta in ('new', 'changed')),
    muted boolean not null default false,
    muted_reason text,
    muted_at timestamptz,
    first_seen_at timestamptz not null,
    resource_regions text[] not null default '{}',
    resource_services text[] not null default '{}',
    resource_types text[] not null default '{}',
    resource_groups text,
    categories text[] not null default '{}',
    compliance text,
    raw_result text,
    inserted_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id)
) partition by range (id);
create index findings_scan on findings (tenant_id, scan_id, id);
create index findings_provider_uid on findings (tenant_id, provider_id, uid, id desc);
select protect('findings');

create table resource_finding_mappings (
    tenant_id uuid not null,
    resource_id uuid not null,
    finding_id uuid not null,
    primary key (tenant_id, finding_id, resource_id)
) partition by range (finding_id);
create index resource_finding_mappings_resource
    on resource_finding_mappings (tenant_id, resource_id);
select protect('resource_finding_mappings');

-- Records of a file that could not be kept, with why.
create table quarantined_findings (
    tenant_id uuid not null,
    id uuid not null,
    scan_id uuid not null,
    attempt integer not null,
    -- Place of the record in its file, from 0.
    position bigint not null,
    reason text not null,
    record text,
    inserted_at timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, scan_id) references scans (tenant_id, id) on delete cascade
);
create index quarantined_findings_scan on quarantined_findings (tenant_id, scan_id);
select protect('quarantined_findings');
