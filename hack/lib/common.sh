# Shared by the scripts in hack/. Source it; it does nothing by itself.
# shellcheck shell=bash

# EPOCHREALTIME may use the locale's decimal comma; the arithmetic below wants none.
now_ms() { local t=${EPOCHREALTIME//[.,]/}; echo "${t%???}"; }

# A failure inside $(...) must count too.
shopt -s inherit_errexit

STARTED_MS=${STARTED_MS:-$(now_ms)}

# Progress goes to stderr: stdout is for what other programs read (paths, references).
log() {
  local ms=$(($(now_ms) - STARTED_MS))
  printf '[%4d.%ds] %s\n' $((ms / 1000)) $((ms % 1000 / 100)) "$*" >&2
}

die() {
  log "error: $*"
  exit 1
}

# Everything that may be thrown away and made again lives here.
cache_dir() {
  echo "${PROWLER_OPERATOR_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/prowler-operator}"
}

# version_at_least 1.33.2 1.33 -> true. Only dots and digits are compared.
version_at_least() {
  [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# Hash of the given files' names (without their folder) and contents, and of what is on stdin.
content_key() {
  local f
  {
    cat
    for f in "$@"; do
      printf '%s ' "${f##*/}"
      sha256sum <"$f"
    done
  } | sha256sum | cut -c1-12
}

# Machines that run this are often fresh containers: install what is missing rather than
# make everybody find the list in a document.
need_packages() {
  local missing=() pkg
  for pkg in "$@"; do
    dpkg-query -W -f '${Status}' "$pkg" 2>/dev/null | grep -q 'ok installed' || missing+=("$pkg")
  done
  [ ${#missing[@]} -eq 0 ] && return
  [ "$(id -u)" = 0 ] || die "missing Debian packages, install them as root: ${missing[*]}"
  command -v apt-get >/dev/null || die "this is not Debian; install the equivalents of: ${missing[*]}"
  log "installing Debian packages: ${missing[*]}"
  (
    # Two scripts may find packages missing at the same time.
    flock 9
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update >/dev/null || log "apt-get update failed; trying with the lists that are here"
    # Services must not start: the local cluster runs a containerd of its own, and tests their
    # own Postgres.
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    if [ ! -e /usr/sbin/policy-rc.d ]; then
      printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
      chmod +x /usr/sbin/policy-rc.d
    else
      trap - EXIT
    fi
    apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install --no-install-recommends -y "${missing[@]}" >/dev/null
  ) 9>/run/lock/prowler-operator-apt.lock || die "could not install: ${missing[*]}"
}
