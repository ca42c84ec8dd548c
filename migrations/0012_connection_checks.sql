-- When an account's connection is to be checked, and the check that runs.

alter table providers add column connection_reason text;
alter table providers add column connection_message text
    check (char_length(connection_message) <= 1024);

create table connection_checks (
    tenant_id uuid not null,
    provider_id uuid not null,
    -- None is due: checks are off.
    due_at timestamptz,
    -- New or changed since the last one: it goes before those that are only due again.
    urgent boolean not null,
    interval_seconds bigint not null check (interval_seconds >= 0),
    -- Hash of what a check depends on, and of what the running one looks at.
    subject bigint not null,
    running_subject bigint,
    -- How many began; names the Job.
    number integer not null default 0,
    -- Held while one runs.
    slot integer check (slot > 0),
    started_at timestamptz,
    job_namespace text,
    job_name text,
    job_uid uuid,
    primary key (tenant_id, provider_id),
    foreign key (tenant_id, provider_id) references providers (tenant_id, id) on delete cascade,
    check ((slot is null) = (running_subject is null))
);
create unique index connection_check_slots on connection_checks (slot) where slot is not null;
create index connection_checks_due on connection_checks (due_at) where slot is null;
select protect('connection_checks');

-- Accounts from before have their turn within a day, not all at once.
insert into connection_checks (tenant_id, provider_id, due_at, urgent, interval_seconds, subject)
select tenant_id, id, now() + random() * interval '24 hours', false, 86400, 0
from providers where not is_deleted;
