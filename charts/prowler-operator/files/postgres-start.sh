#!/bin/sh
# Starts the embedded Postgres with any image that has Postgres 15 or newer. The environment:
#
#   PGDATA                        a folder INSIDE the volume, not its top
#   POSTGRES_PASSWORD_FILE        password of the superuser "postgres"
#   PROWLER_ADMIN_PASSWORD_FILE   password of "prowler_admin", who owns the schema
#   PROWLER_USER_PASSWORD_FILE    password of "prowler_user", bound by row-level security
#   TLS_CERT_FILE, TLS_KEY_FILE   optional; TLS is on if both files exist
#
# Arguments are handed on to postgres ("-c max_connections=200"). Passwords are set anew at each
# start, so that a changed Secret takes effect; they appear neither in logs nor in arguments.
set -eu
umask 077

fail() {
  echo "postgres-start: $*" >&2
  exit 1
}

for name in PGDATA POSTGRES_PASSWORD_FILE PROWLER_ADMIN_PASSWORD_FILE PROWLER_USER_PASSWORD_FILE; do
  eval "value=\${$name:-}"
  [ -n "$value" ] || fail "$name is not set"
done
for file in "$POSTGRES_PASSWORD_FILE" "$PROWLER_ADMIN_PASSWORD_FILE" "$PROWLER_USER_PASSWORD_FILE"; do
  [ -s "$file" ] || fail "$file is empty or missing"
done

# Debian keeps the programs out of PATH.
if ! command -v initdb >/dev/null; then
  for folder in /usr/lib/postgresql/*/bin; do
    if [ -x "$folder/initdb" ]; then PATH=$folder:$PATH; fi
  done
fi
command -v initdb >/dev/null || fail "no initdb in this image"

PGDATA=${PGDATA%/}
volume=$(dirname "$PGDATA")
mkdir -p "$volume"

# Two pods of one node can share a volume. The lock says that ours is the only Postgres on it, and
# so that a postmaster.pid found there is what a killed one left: its process id means nothing in
# a new container. The programs started below inherit the lock.
if command -v flock >/dev/null; then
  exec 9>"$volume/.lock"
  flock -w 60 9 2>/dev/null || flock -n 9 || fail "another Postgres uses this volume"
  rm -f "$PGDATA/postmaster.pid"
fi

# A database cluster is made beside PGDATA and renamed when complete: being killed half-way leaves
# nothing that looks like one.
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  if [ -e "$PGDATA" ]; then
    rmdir "$PGDATA" 2>/dev/null ||
      fail "$PGDATA is no database and cannot be replaced: it must be an empty folder, and not the top of the volume"
  fi
  rm -rf "$volume/.initdb"
  initdb -D "$volume/.initdb" --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" \
    --auth-local=scram-sha-256 --auth-host=scram-sha-256 \
    --encoding=UTF8 --locale=C.UTF-8 --data-checksums >/dev/null
  mv "$volume/.initdb" "$PGDATA"
  echo "postgres-start: made a new database in $PGDATA" >&2
fi

made_by=$(cat "$PGDATA/PG_VERSION")
version=$(postgres --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
[ "$made_by" = "$version" ] ||
  fail "$PGDATA was made by Postgres $made_by, this image has $version: dump and restore, or run the old image"

# fsGroup makes volumes writable by the group, which Postgres refuses.
chmod 0700 "$PGDATA"

private=$(mktemp -d "${TMPDIR:-/tmp}/postgres-start.XXXXXX")

# Roles and passwords are set through a server that nobody else can reach.
echo "local all all trust" >"$private/setup_hba.conf"
pg_ctl start -D "$PGDATA" -w -t 300 -s -o "-c listen_addresses='' -c unix_socket_directories='$private' -c hba_file='$private/setup_hba.conf'" >&2 ||
  fail "the database does not start"
PGOPTIONS="-c log_statement=none -c log_min_error_statement=panic -c log_min_duration_statement=-1" \
  psql -X -q -v ON_ERROR_STOP=1 -v VERBOSITY=terse -h "$private" -U postgres -d postgres <<'SQL' || fail "could not set up roles"
\set superuser_password `cat "$POSTGRES_PASSWORD_FILE"`
\set admin_password `cat "$PROWLER_ADMIN_PASSWORD_FILE"`
\set user_password `cat "$PROWLER_USER_PASSWORD_FILE"`
set password_encryption = 'scram-sha-256';
alter role postgres password :'superuser_password';
select format('create role %I', r) from unnest(array['prowler_admin', 'prowler_user']) r
  where not exists (select from pg_catalog.pg_roles where rolname = r) \gexec
alter role prowler_admin login nosuperuser nobypassrls nocreaterole nocreatedb noreplication password :'admin_password';
alter role prowler_user login nosuperuser nobypassrls nocreaterole nocreatedb noreplication password :'user_password';
select 'create database prowler'
  where not exists (select from pg_catalog.pg_database where datname = 'prowler') \gexec
revoke all on database prowler from public;
grant connect, create, temporary on database prowler to prowler_admin;
grant connect, temporary on database prowler to prowler_user;
SQL
pg_ctl stop -D "$PGDATA" -w -t 300 -s -m fast >&2

cat >"$private/hba.conf" <<'HBA'
local all all scram-sha-256
host  all all all scram-sha-256
HBA
set -- -c listen_addresses='*' -c port=5432 -c hba_file="$private/hba.conf" "$@"
if [ -w /var/run/postgresql ]; then
  set -- -c unix_socket_directories=/var/run/postgresql "$@"
else
  set -- -c unix_socket_directories="$private" "$@"
fi
if [ -s "${TLS_CERT_FILE:-}" ] && [ -s "${TLS_KEY_FILE:-}" ]; then
  # Postgres refuses a key that others may read, which a mounted Secret's file often is.
  cat "$TLS_CERT_FILE" >"$private/tls.crt"
  cat "$TLS_KEY_FILE" >"$private/tls.key"
  set -- -c ssl=on -c ssl_cert_file="$private/tls.crt" -c ssl_key_file="$private/tls.key" "$@"
fi

# TERM, which Kubernetes sends, makes Postgres wait for its clients to leave; INT ends them.
postgres -D "$PGDATA" "$@" &
server=$!
trap 'kill -INT "$server"' TERM INT
while :; do
  code=0
  wait "$server" || code=$?
  if ! kill -0 "$server" 2>/dev/null; then
    rm -rf "$private"
    exit "$code"
  fi
done
