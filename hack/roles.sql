-- The two roles, once per server, by an administrator (CREATEROLE is enough).
-- Both are plain: no superuser, no BYPASSRLS, neither a member of the other.
create role prowler_admin login password 'change-me-admin'
    nosuperuser nobypassrls nocreatedb nocreaterole noreplication;
create role prowler_user login password 'change-me-user'
    nosuperuser nobypassrls nocreatedb nocreaterole noreplication;
