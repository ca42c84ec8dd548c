-- What scans found: resources, findings by month, what a next scan compares with, and records
-- set aside.
--
-- Findings are written by the hundred thousand and read by scan or by resource. So: no index
-- that nothing reads by, no foreign key per row, the constants of a check kept once. Ids are
-- derived where a look-up would otherwise be needed, so uniqueness is the primary key's, and no
-- text from outside is ever an index key (Postgres refuses keys of some 2,700 bytes).

create table resources (
    tenant_id uuid not null,
    -- Derived from provider and uid, so that a mapping needs no look-up; the uid is kept to verify.
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
    -- Hash of all that a scan says of it, tags included: an unchanged resource is not written.
    digest bytea not null,
    inserted_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    -- Not `cascade`: resources leave in batches, before their provider.
    foreign key (tenant_id, provider_id) references providers (tenant_id, id)
);
create index resources_provider on resources (tenant_id, provider_id);
select protect('resources');

create table resource_tags (
    tenant_id uuid not null references tenants (id) on delete cascade,
    -- Derived from tenant, key and value.
    id uuid not null,
    key text not null,
    value text not null,
    inserted_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id)
);
select protect('resource_tags');

create table resource_tag_mappings (
    tenant_id uuid not null,
    resource_id uuid not null,
    tag_id uuid not null,
    -- No foreign keys: checking two for each row took as long as all else that a first scan
    -- writes of resources. Resources take their rows with them; tags go when none is left, unless a
    -- publication is about to commit (store/tags.rs).
    primary key (tenant_id, resource_id, tag_id)
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

-- By month of the id, whose time is that of the scan's id: the findings of a scan are a range of
-- ids, so the primary key finds them and no index on scan_id is needed. No default partition,
-- and no foreign key to or from.
create table findings (
    tenant_id uuid not null,
    id uuid not null,
    scan_id uuid not null,
    provider_id uuid not null,
    -- Not unique: one row a scan, and within a scan resources of equal name share it.
    uid text not null check (char_length(uid) <= 300),
    check_id text not null,
    check_sha256 bytea not null,
    status text not null check (status in ('FAIL', 'PASS', 'MANUAL')),
    status_extended text not null default '',
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
    categories text[] not null default '{}',
    inserted_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id)
) partition by range (id);
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

-- The newest finding of every uid of a provider, whichever scan saw it: what delta and
-- first_seen_at are computed from. 32 bytes a uid (domain::history), about a thousand a row: a
-- row per uid costs more to write than the findings themselves, and reading them back out of
-- `findings` takes longer with every scan that is kept.
create table provider_finding_states (
    tenant_id uuid not null,
    provider_id uuid not null,
    chunk integer not null,
    entries bytea not null,
    primary key (tenant_id, provider_id, chunk),
    foreign key (tenant_id, provider_id) references providers (tenant_id, id) on delete cascade
);
-- Hashes do not compress.
alter table provider_finding_states alter column entries set storage external;
select protect('provider_finding_states');

-- Records of a file that could not be kept, with why. Their number is in the scan's row; of many
-- only the first are here.
create table quarantined_findings (
    tenant_id uuid not null,
    scan_id uuid not null,
    attempt integer not null,
    -- Place of the record in its file: its number and its first byte, from 0.
    position bigint not null,
    byte_offset bigint not null,
    reason text not null,
    -- Its first KiB.
    record text not null,
    inserted_at timestamptz not null default now(),
    primary key (tenant_id, scan_id, attempt, position),
    foreign key (tenant_id, scan_id) references scans (tenant_id, id) on delete cascade
);
select protect('quarantined_findings');
