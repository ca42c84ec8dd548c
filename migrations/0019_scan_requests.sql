-- Scans asked for by an annotation. A token is taken once for the object that carries it, whoever reads
-- it and however often; what it asks for is a Scan for each account, named before it is made.

create table scan_requests (
    tenant_id uuid not null references tenants (id) on delete cascade,
    -- The ScanSchedule or Provider that carries the annotation.
    object_uid uuid not null,
    token text not null check (length(token) between 1 and 256),
    inserted_at timestamptz not null default now(),
    primary key (tenant_id, object_uid, token)
);
alter table scan_requests alter column tenant_id set statistics 0;
select protect('scan_requests');

create table requested_scans (
    tenant_id uuid not null,
    object_uid uuid not null,
    token text not null,
    provider_id uuid not null,
    -- Whose history the Scan counts in; none of a Provider that was asked itself.
    schedule_id uuid,
    scan_name text not null,
    scan_id uuid,
    scan_object uuid,
    state text not null default 'claimed' check (state in ('claimed', 'created', 'skipped')),
    inserted_at timestamptz not null default now(),
    primary key (tenant_id, object_uid, token, provider_id),
    foreign key (tenant_id, object_uid, token)
        references scan_requests (tenant_id, object_uid, token) on delete cascade,
    foreign key (tenant_id, provider_id) references providers (tenant_id, id) on delete cascade,
    foreign key (tenant_id, schedule_id)
        references schedules (tenant_id, id) on delete set null (schedule_id),
    foreign key (tenant_id, scan_id)
        references scans (tenant_id, id) on delete set null (scan_id)
);
create unique index requested_scans_name on requested_scans (tenant_id, scan_name);
create index requested_scans_provider on requested_scans (tenant_id, provider_id);
create index requested_scans_schedule on requested_scans (tenant_id, schedule_id)
    where schedule_id is not null;
create index requested_scans_scan on requested_scans (tenant_id, scan_id) where scan_id is not null;
create index requested_scans_open on requested_scans (tenant_id, object_uid) where state = 'claimed';
alter table requested_scans alter column tenant_id set statistics 0;
select protect('requested_scans');
