-- A first scan writes resources and tags by the ten thousand, and to look up the provider or tenant
-- of each took a third of that time. What the references said is said once for each owner instead:
--
-- * no provider goes while resources of it are left. That none comes in between, locks see to that
--   are held anyway: a publication locks the provider's row (shared) before it writes resources and
--   holds it to its end, a deletion locks it alone (store/standing.rs, store/deletion.rs);
-- * a tenant takes its tags along. None comes after it: a tag comes with a publication, which holds
--   a provider, and no tenant goes while a provider is left (store/tags.rs, store/tenants.rs).
alter table resources drop constraint resources_tenant_id_provider_id_fkey;
alter table resource_tags drop constraint resource_tags_tenant_id_fkey;

create function resources_leave_first() returns trigger
language plpgsql
set search_path = prowler, pg_temp
as $$
begin
    if exists (select from resources where tenant_id = old.tenant_id and provider_id = old.id) then
        raise foreign_key_violation using
            message = format('provider %s still has resources', old.id),
            hint = 'They leave in batches, before their provider.',
            schema = 'prowler', table = 'providers', constraint = 'resources_leave_first';
    end if;
    return old;
end
$$;
create trigger resources_leave_first before delete on providers
    for each row execute function resources_leave_first();

create function tags_leave_along() returns trigger
language plpgsql
set search_path = prowler, pg_temp
as $$
begin
    delete from resource_tags where tenant_id = old.id;
    return old;
end
$$;
create trigger tags_leave_along before delete on tenants
    for each row execute function tags_leave_along();
