-- Findings that a tenant has decided not to hear of any more, by their uid.

create table mute_rules (
    tenant_id uuid not null references tenants (id) on delete cascade,
    id uuid not null,
    namespace text not null,
    name text not null,
    reason text not null check (char_length(reason) between 3 and 500),
    enabled boolean not null default true,
    finding_uids text[] not null,
    object_uid uuid,
    inserted_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    constraint unique_mute_rule_names unique (tenant_id, namespace, name)
);
create index mute_rules_object_uid on mute_rules (object_uid);
select protect('mute_rules');
