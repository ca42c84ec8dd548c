-- A first scan writes resources and tags by the ten thousand, and to look up the provider or tenant
-- of each took a third of that time. Nothing outlives its owner without these references:
--
-- * resources: a publication locks the provider's row (shared) before it writes them and holds it to
--   its end; a deletion takes the row away only in a transaction that locked it alone and then found
--   nothing left (store/standing.rs, store/deletion.rs);
-- * tags go with the last resource that carries them, and what is left of them with the tenant's row,
--   which is not removed while a provider is left (store/tags.rs, store/tenants.rs).
alter table resources drop constraint resources_tenant_id_provider_id_fkey;
alter table resource_tags drop constraint resource_tags_tenant_id_fkey;
