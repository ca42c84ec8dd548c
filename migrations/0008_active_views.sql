-- What normal reads see of scans' results. A provider that is being deleted is gone from reads at
-- once, while its rows leave in batches; those of accounts, schedules and scans have their views
-- already.

create view active_resources with (security_invoker = true) as
    select r.*
    from resources r
    join providers p on p.tenant_id = r.tenant_id and p.id = r.provider_id
    where not p.is_deleted;
grant select on active_resources to prowler_user;

create view active_findings with (security_invoker = true) as
    select f.*
    from findings f
    join providers p on p.tenant_id = f.tenant_id and p.id = f.provider_id
    where not p.is_deleted;
grant select on active_findings to prowler_user;
