-- In the new database, by its owner: prowler_admin will create and own schema "prowler";
-- prowler_user gets nothing else than what the migrations grant it (temporary tables for COPY).
do $$ begin
    execute format('revoke all on database %I from public', current_database());
    execute format('grant connect, create, temporary on database %I to prowler_admin', current_database());
    execute format('grant connect, temporary on database %I to prowler_user', current_database());
end $$;
