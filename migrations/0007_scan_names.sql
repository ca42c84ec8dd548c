-- No two due times that may still lead to a Scan lead to the same one: whose Scan an object is must
-- not depend on which row is found first. Once a tenant, not once a namespace: a name carries a hash
-- over its schedule, and a schedule is of one namespace.

create unique index schedule_slots_scan_name on schedule_slots (tenant_id, scan_name)
    where state = 'claimed';
