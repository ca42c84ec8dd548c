-- Findings of each account's last completed scan, counted by severity and status.
select p.provider || ' ' || p.uid, f.severity,
       count(*) filter (where f.status = 'FAIL' and not f.muted),
       count(*) filter (where f.status = 'PASS' and not f.muted),
       count(*) filter (where f.status = 'MANUAL' and not f.muted),
       count(*) filter (where f.muted)
  from active_providers p
  cross join lateral (
    select s.id from scans s
     where s.tenant_id = p.tenant_id and s.provider_id = p.id and s.state = 'completed'
     order by s.completed_at desc limit 1) last
  join findings f on f.tenant_id = p.tenant_id and f.scan_id = last.id
 group by p.provider, p.uid, f.severity
 order by p.provider, p.uid,
          array_position(array['critical', 'high', 'medium', 'low', 'informational'], f.severity)
