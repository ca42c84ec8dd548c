-- A record that could not be kept is stored as the bytes it has: what is wrong with it may be that
-- they are no text. `record` stays for older programs, which fill it; a later release removes it.
alter table quarantined_findings
    add column head bytea check (octet_length(head) <= 1024),
    alter column record set default '';

-- The word is another since.
update scans set reason = 'OutputUnreadable' where reason = 'OutputInvalid';
