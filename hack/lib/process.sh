# Background processes that are known by id AND start time, so that a recycled process id is
# never taken for ours. Needs RUN_DIR and LOG_DIR; common.sh is loaded.
# shellcheck shell=bash

# Start time of a live process in clock ticks since boot; nothing for a dead one or a zombie.
start_time() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  # The command name, in parentheses, may hold spaces: count fields behind it.
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  [ "$1" = Z ] || echo "${20}"
}

# Sets PID. True if the process recorded under this name is still that process.
is_running() {
  local since
  read -r PID since _ 2>/dev/null <"$RUN_DIR/$1.pid" || return 1
  [ -n "$since" ] && [ "$(start_time "$PID")" = "$since" ]
}

# start NAME [--watch FILE] COMMAND...: starts it unless it runs already with this very command
# line (and this content of FILE). Appends to its log.
start() {
  local name=$1 key watch=/dev/null
  shift
  if [ "$1" = --watch ]; then
    watch=$2
    shift 2
  fi
  key=$(printf '%s\n' "$@" | cat - "$watch" | sha256sum | cut -c1-12)
  if is_running "$name"; then
    [ "$(cut -d' ' -f3 "$RUN_DIR/$name.pid")" = "$key" ] && return
    log "$name runs with other settings: restarting it"
    stop "$name"
  fi
  # The child records itself before it becomes the program: there is no moment at which it runs
  # unrecorded. It must not inherit our lock (descriptor 9).
  rm -f "$RUN_DIR/$name.pid"
  # shellcheck disable=SC2016
  setsid bash -c '
    stat=$(</proc/$$/stat)
    fields=(${stat##*) })
    echo "$$ ${fields[19]} $1" >"$0.tmp" && mv "$0.tmp" "$0" && shift && exec "$@"
  ' "$RUN_DIR/$name.pid" "$key" "$@" </dev/null >>"$LOG_DIR/$name.log" 2>&1 9>&- &
  disown
  until [ -e "$RUN_DIR/$name.pid" ]; do sleep 0.02; done
  STARTED_ANY=1
}

# wait_for NAME SECONDS COMMAND...: until COMMAND succeeds; gives up at once if the process NAME
# has died.
wait_for() {
  local name=$1 deadline=$((SECONDS + $2)) shown
  shift 2
  until "$@" >/dev/null 2>&1; do
    sleep 0.2
    if ! is_running "$name" && sleep 1 && ! is_running "$name"; then
      shown="$name ended"
    elif [ $SECONDS -ge $deadline ]; then
      shown="$name is not ready in time"
    else
      continue
    fi
    tail -n 15 "$LOG_DIR/$name.log" >&2 || true
    die "$shown; the whole log: $LOG_DIR/$name.log"
  done
}

# stop NAME [SECONDS]: TERM, then KILL.
stop() {
  local name=$1 deadline=$((SECONDS + ${2:-10}))
  if is_running "$name"; then
    kill -TERM "$PID" 2>/dev/null || true
    while is_running "$name"; do
      [ $SECONDS -lt $deadline ] || kill -KILL "$PID" 2>/dev/null || true
      sleep 0.05
    done
  fi
  rm -f "$RUN_DIR/$name.pid"
}
