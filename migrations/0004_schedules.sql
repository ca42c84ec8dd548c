-- When to scan what, and the claim of each due time.

create table schedules (
    tenant_id uuid not null references tenants (id) on delete cascade,
    id uuid not null,
    namespace text not null,
    name text not null,
    object_uid uuid,
    schedule text,
    interval_seconds bigint check (interval_seconds > 0),
    time_zone text,
    suspend boolean not null default false,
    concurrency_policy text not null default 'Forbid'
        check (concurrency_policy in ('Forbid', 'Allow', 'Replace')),
    starting_deadline_seconds bigint check (starting_deadline_seconds >= 0),
    jitter_seconds bigint not null default 0 check (jitter_seconds >= 0),
    scanner_args jsonb not null default '{}',
    last_schedule_time timestamptz,
    next_schedule_time timestamptz,
    last_missed_time timestamptz,
    missed_count bigint not null default 0,
    is_deleted boolean not null default false,
    deleted_at timestamptz,
    -- The anchor of an interval: survives the re-creation of the object.
    inserted_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    constraint schedule_or_interval check (num_nonnulls(schedule, interval_seconds) = 1)
);
create index schedules_object_uid on schedules (object_uid);
-- Which schedules are due, across tenants.
create index schedules_due on schedules (next_schedule_time) where not suspend and not is_deleted;
select protect('schedules');

-- One row a schedule, provider and due time: whoever inserts it has claimed it, whatever two
-- controllers believe.
create table schedule_slots (
    tenant_id uuid not null,
    schedule_id uuid not null,
    provider_id uuid not null,
    due_at timestamptz not null,
    -- The Scan object the slot leads to: named before it exists, so that making it again is safe.
    scan_name text not null,
    scan_id uuid,
    state text not null check (state in ('claimed', 'missed', 'skipped')),
    inserted_at timestamptz not null default now(),
    primary key (tenant_id, schedule_id, provider_id, due_at),
    foreign key (tenant_id, schedule_id) references schedules (tenant_id, id) on delete cascade,
    foreign key (tenant_id, provider_id) references providers (tenant_id, id) on delete cascade
);
create index schedule_slots_provider on schedule_slots (tenant_id, provider_id);
select protect('schedule_slots');

create view active_schedules with (security_invoker = true) as
    select s.* from schedules s where not s.is_deleted;
grant select on active_schedules to prowler_user;
