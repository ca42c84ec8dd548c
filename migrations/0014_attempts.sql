-- What came of the attempts that failed, for as long as the scan's row lives: its object's status
-- shows the last of them, and whether a reason that is worth one more try has had it is read here.

alter table scans
    -- The last attempt whose file the server refused; the row's reason says why. The controller
    -- ends the attempt and decides whether another follows.
    add column refused_attempt integer,
    -- [{attempt, reason, at}], oldest first.
    add column failed_attempts jsonb not null default '[]';
