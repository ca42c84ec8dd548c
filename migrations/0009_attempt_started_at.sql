-- When the attempt under way was let in: one that gets no Job is not waited for for ever, and
-- `started_at` is that of the first.

alter table scans add column attempt_started_at timestamptz;
