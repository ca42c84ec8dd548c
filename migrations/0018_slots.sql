-- Every due time has one row that says what came of it. Many that passed unseen, or while nothing was
-- to be started, share one: first and last of them, and how many. Whoever is to claim the next due
-- time needs nothing but the database, so that thousands can be claimed at once, in few statements.

alter table schedules
    -- Every due time up to this one has its row.
    add column decided_until timestamptz not null default now(),
    -- It, or its tenant, was suspended when it was last looked at.
    add column rests boolean not null default false,
    -- metadata.generation: what an older copy of the object says is not stored over a newer.
    add column generation bigint not null default 0,
    -- Due times left out because the account's last scan of this schedule had not ended.
    add column skipped_count bigint not null default 0;
update schedules set
    decided_until = coalesce(greatest(last_schedule_time, last_missed_time),
        inserted_at - case when interval_seconds is null then interval '0' else interval '1 second' end),
    rests = suspend;

-- The accounts that a schedule chooses.
create table schedule_providers (
    tenant_id uuid not null,
    schedule_id uuid not null,
    provider_id uuid not null,
    primary key (tenant_id, schedule_id, provider_id),
    foreign key (tenant_id, schedule_id) references schedules (tenant_id, id) on delete cascade,
    foreign key (tenant_id, provider_id) references providers (tenant_id, id) on delete cascade
);
create index schedule_providers_provider on schedule_providers (tenant_id, provider_id);
alter table schedule_providers alter column tenant_id set statistics 0;
select protect('schedule_providers');

alter table schedule_slots
    alter column scan_name drop not null,
    -- Of a stretch: its last due time; due_at is its first.
    add column last_due_at timestamptz check (last_due_at >= due_at),
    add column count bigint not null default 1 check (count > 0),
    -- Why nothing came of it.
    add column reason text
        check (reason in ('StillActive', 'Suspended', 'Deleted', 'Deadline', 'NameTaken')),
    -- The Scan object it led to.
    add column scan_object uuid,
    drop constraint schedule_slots_state_check,
    add constraint schedule_slots_state_check
        check (state in ('claimed', 'created', 'skipped', 'missed', 'superseded')),
    add constraint scan_has_name check (state not in ('claimed', 'created') or scan_name is not null);
update schedule_slots q set state = 'created',
    scan_object = (select s.object_uid from scans s where s.tenant_id = q.tenant_id and s.id = q.scan_id)
where q.state = 'claimed' and q.scan_id is not null;
drop index schedule_slots_scan_name;
create unique index schedule_slots_scan_name on schedule_slots (tenant_id, scan_name)
    where state in ('claimed', 'created');
-- Those whose Scan is still to be made.
create index schedule_slots_open on schedule_slots (tenant_id, schedule_id, provider_id)
    where state = 'claimed';

-- Which accounts a schedule's scans keep busy, and when one of them last went well: asked in every
-- pass, however many scans there have been.
create index scans_open_of_schedule on scans (tenant_id, schedule_id, provider_id)
    where schedule_id is not null and (holds_account or state in ('available', 'executing'));
create index scans_completed_of_schedule on scans (tenant_id, schedule_id, completed_at)
    where schedule_id is not null and state = 'completed';
