-- Every index begins with the tenant, and the planner knows tenants as of the last ANALYZE. One that
-- came since is in no list of frequent values: taken to have one row, it makes every index look as
-- good as the primary key, and reading fifty findings of a first scan took minutes (it went through
-- all links of the tenant for each). Without statistics of the column it takes any tenant for a two
-- hundredth of the table, which is never one row, and the column that says more decides.
-- New tables and partitions say the same; tests/database/partitions.rs looks at all of them.
do $$
declare
    target regclass;
begin
    for target in
        select c.oid from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
        where c.relnamespace = 'prowler'::regnamespace and c.relkind in ('r', 'p')
    loop
        execute format('alter table %s alter column tenant_id set statistics 0', target);
    end loop;
end
$$;
