-- Admission asks each tenant for the scans it would let in next, instead of sorting all that wait; and
-- the scans of a provider type may have a limit of their own, held by a key as the others are.

alter table scans
    -- Set by admission where the type of the account has a limit.
    add column limited_type text,
    add column type_slot integer check (type_slot >= 0);
create unique index type_slots on scans (limited_type, type_slot)
    where type_slot is not null and holds_account;
create index scans_in_line on scans (tenant_id, priority desc, id)
    where state = 'available' and not is_deleted and not holds_account;
create index scans_in_line_of_provider on scans (tenant_id, provider_id, priority desc, id)
    where state = 'available' and not is_deleted and not holds_account;
