-- Scans: one run of one account, its place in the queue and the slots it holds.

create table scans (
    tenant_id uuid not null references tenants (id) on delete cascade,
    -- UUIDv7: its time decides the month the findings lie in.
    id uuid not null,
    -- Not `cascade`: scans leave in batches, before their provider.
    provider_id uuid not null,
    schedule_id uuid,
    due_at timestamptz,
    namespace text not null default '',
    name text not null default '',
    object_uid uuid,
    trigger text not null check (trigger in ('manual', 'scheduled')),
    state text not null default 'available'
        check (state in ('available', 'executing', 'completed', 'failed', 'cancelled')),
    priority integer not null default 0,
    attempt integer not null default 0 check (attempt >= 0),
    -- Set by admission, cleared when the attempt's pod is gone, whatever the state says by then.
    holds_account boolean not null default false,
    slot integer check (slot >= 0),
    queue_slot integer check (queue_slot >= 0),
    job_namespace text,
    job_name text,
    job_uid uuid,
    next_attempt_at timestamptz,
    progress integer not null default 0 check (progress between 0 and 100),
    unique_resource_count integer not null default 0,
    scanner_args jsonb not null default '{}',
    -- The provider's reference as it stood at admission; never a value.
    credentials jsonb,
    -- The provider's spec as it stood at admission: what this attempt runs on.
    admitted jsonb,
    memory_bytes bigint,
    -- Seconds.
    duration integer,
    started_at timestamptz,
    completed_at timestamptz,
    published_attempt integer,
    reason text,
    message text,
    counts jsonb,
    quarantined integer not null default 0,
    is_deleted boolean not null default false,
    deleted_at timestamptz,
    inserted_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, provider_id) references providers (tenant_id, id),
    foreign key (tenant_id, schedule_id)
        references schedules (tenant_id, id) on delete set null (schedule_id),
    -- An account, a place among the tenant's scans and a place in the queue come and go together.
    constraint slots_with_account
        check (holds_account = (slot is not null) and holds_account = (queue_slot is not null))
);

-- The limits, held by keys and not by counting: two controllers cannot both win.
create unique index one_scan_per_account on scans (tenant_id, provider_id) where holds_account;
create unique index scan_slots on scans (tenant_id, slot) where slot is not null;
-- The queue is shared by all tenants.
create unique index queue_slots on scans (queue_slot) where queue_slot is not null;

-- Across tenants: an upload knows its Job, a deletion its object, admission its queue.
create unique index scans_job_uid on scans (job_uid) where job_uid is not null;
create index scans_object_uid on scans (object_uid);
-- An object is queued once, however often a pass is repeated.
create unique index one_scan_per_object on scans (tenant_id, object_uid)
    where object_uid is not null;
create index scans_admission on scans (next_attempt_at, priority desc, id)
    where state = 'available';

create index scans_provider on scans (tenant_id, provider_id, inserted_at desc);
create index scans_schedule on scans (tenant_id, schedule_id, due_at)
    where schedule_id is not null;
select protect('scans');

-- Deferred: claiming a slot comes before the scan it leads to, in one transaction.
alter table schedule_slots add constraint schedule_slots_scan
    foreign key (tenant_id, scan_id) references scans (tenant_id, id)
    on delete set null (scan_id) deferrable initially deferred;
create index schedule_slots_scan on schedule_slots (tenant_id, scan_id) where scan_id is not null;

create view active_scans with (security_invoker = true) as
    select s.*
    from scans s
    join providers p on p.tenant_id = s.tenant_id and p.id = s.provider_id
    where not s.is_deleted and not p.is_deleted;
grant select on active_scans to prowler_user;

-- Whose scan a Job is. An upload names no tenant: the pod's Job, as the API server tells it, is
-- all there is to go by. Ids only.
create function scan_of_job(job uuid)
    returns table (tenant_id uuid, scan_id uuid, attempt integer)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select s.tenant_id, s.id, s.attempt from prowler.scans s where s.job_uid = job
$$;
revoke execute on function scan_of_job(uuid) from public;
grant execute on function scan_of_job(uuid) to prowler_user;
