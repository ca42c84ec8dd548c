-- Where findings are sent besides this database, and whose.

create table integrations (
    tenant_id uuid not null references tenants (id) on delete cascade,
    id uuid not null,
    namespace text not null,
    name text not null,
    integration_type text not null
        check (integration_type in ('amazon_s3', 'aws_security_hub', 'jira')),
    enabled boolean not null default true,
    connected boolean,
    connection_last_checked_at timestamptz,
    configuration jsonb not null default '{}',
    -- Where the credentials are (names of a Secret and of its keys), never what they are.
    credentials jsonb,
    object_uid uuid not null,
    inserted_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    constraint unique_integration_names unique (tenant_id, namespace, name),
    -- For the mappings, which say the type again.
    constraint unique_integration_types unique (tenant_id, id, integration_type)
);
create index integrations_object_uid on integrations (object_uid);
select protect('integrations');

create table integration_provider_mappings (
    tenant_id uuid not null,
    integration_id uuid not null,
    provider_id uuid not null,
    integration_type text not null,
    inserted_at timestamptz not null default now(),
    primary key (tenant_id, integration_id, provider_id),
    foreign key (tenant_id, integration_id, integration_type)
        references integrations (tenant_id, id, integration_type) on delete cascade,
    foreign key (tenant_id, provider_id) references providers (tenant_id, id) on delete cascade
);
create index integration_provider_mappings_provider
    on integration_provider_mappings (tenant_id, provider_id);
-- Two that archive what the other sent would undo each other's work.
create unique index unique_security_hub on integration_provider_mappings (tenant_id, provider_id)
    where integration_type = 'aws_security_hub';
select protect('integration_provider_mappings');
