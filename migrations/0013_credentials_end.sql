-- When the credentials end, where only a check can tell (a certificate in PKCS #12).
alter table connection_checks add column credentials_expire_at timestamptz;
