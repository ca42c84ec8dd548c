# The steps of hack/demo. Needs the variables set there; common.sh is loaded.
# shellcheck shell=bash

STATE=$top/.run/demo
STEPS=()

# step NAME COMMAND...: says what it does, and remembers how long it took.
step() {
  local name=$1 before
  shift
  before=$(now_ms)
  log "== $name"
  "$@"
  STEPS+=("$(printf '%-18s %6.1f s' "$name" "$(seconds_since "$before")")")
}

seconds_since() { awk -v ms=$(($(now_ms) - $1)) 'BEGIN {printf "%.1f", ms / 1000}'; }

show_times() {
  echo
  echo "How long it took"
  printf '  %s\n' "${STEPS[@]}" "$(printf '%-18s %6.1f s' "in all" "$(seconds_since "$STARTED_MS")")"
}

# --- Which cluster -----------------------------------------------------------------------------

choose_cluster() {
  local remembered=local
  CONTEXT=
  [ ! -e "$STATE/cluster" ] || remembered=$(cat "$STATE/cluster")
  CLUSTER=${CLUSTER:-$remembered}
  case "$CLUSTER" in
    local | current) ;;
    *) die "CLUSTER must be local or current, not '$CLUSTER'" ;;
  esac
}

remember_cluster() {
  mkdir -p "$STATE"
  echo "$CLUSTER" >"$STATE/cluster"
  printf '%s' "$CONTEXT" >"$STATE/context" # empty for a cluster of our own
}

find_tools() {
  KUBECTL=$("$hack/tools/build" --path kubectl)
  HELM=$("$hack/tools/build" --path helm)
}

# Pins the kubeconfig and context, so that a switch of the context while this runs, or between
# "up" and "down", does not lead to another cluster.
connect() {
  if [ "$CLUSTER" = local ]; then
    KUBECONFIG=$("$hack/local-cluster" kubeconfig)
    export KUBECONFIG
    return
  fi
  if [ -s "$STATE/context" ]; then
    CONTEXT=$(cat "$STATE/context")
  else
    CONTEXT=$("$KUBECTL" config current-context) || die "kubectl has no current context"
  fi
  log "using the cluster of context $CONTEXT"
}

# Before anything is made: the demo goes on where it is, and says so when that is not the cluster
# one would expect.
stay_in_context() {
  local current
  [ -s "$STATE/context" ] || return 0
  current=$("$KUBECTL" config current-context) || die "kubectl has no current context"
  [ "$current" = "$(cat "$STATE/context")" ] ||
    die "the demo is in the cluster of context $(cat "$STATE/context"), and the current context is $current:" \
      "remove it there first (make demo-down), or switch back (kubectl config use-context)"
}

kubectl() { "$KUBECTL" ${CONTEXT:+--context "$CONTEXT"} "$@"; }
helm() { "$HELM" ${CONTEXT:+--kube-context "$CONTEXT"} --namespace "$SYSTEM" "$@"; }

local_cluster() {
  "$hack/local-cluster" up
  connect
}

# --- What runs in it ---------------------------------------------------------------------------

operator_binary() {
  [ -z "${IMAGE:-}" ] || return 0
  # A fixed link time environment: the queries are checked against the committed data.
  (cd "$top" && SQLX_OFFLINE=true cargo build --locked --release --bin prowler-operator)
}

# Side by side: Python's packages keep one processor busy for minutes.
binary_and_images() {
  local bases=
  if [ -z "${SCANNER_IMAGE:-}${POSTGRES_IMAGE:-}${EMULATOR_IMAGE:-}" ]; then
    "$hack/images" build bases &
    bases=$!
  fi
  operator_binary || {
    [ -z "$bases" ] || kill "$bases"
    die "the operator does not compile"
  }
  [ -z "$bases" ] || wait "$bases"
  local_images
}

local_images() {
  IMAGE=${IMAGE:-$(local_image operator)}
  SCANNER_IMAGE=${SCANNER_IMAGE:-$(local_image scanner)}
  POSTGRES_IMAGE=${POSTGRES_IMAGE:-$(local_image postgres)}
  EMULATOR_IMAGE=${EMULATOR_IMAGE:-$(local_image emulator)}
}

local_image() { # NAME
  "$hack/images" load "$1" >&2
  "$hack/images" ref "$1"
}

# Empty means what the chart and the manifest name.
public_images() {
  IMAGE=${IMAGE:-}
  SCANNER_IMAGE=${SCANNER_IMAGE:-}
  POSTGRES_IMAGE=${POSTGRES_IMAGE:-}
  EMULATOR_IMAGE=${EMULATOR_IMAGE:-}
}

# helm_values: the arguments that name the images.
helm_values() {
  VALUES=(--values "$top/examples/demo-values.yaml")
  if [ -n "$IMAGE" ]; then
    local name=${IMAGE%%@*} digest= tag=
    case "$IMAGE" in *@*) digest=${IMAGE#*@} ;; esac
    # A colon behind the last slash begins a tag; one before it a port.
    case "${name##*/}" in
      *:*)
        tag=${name##*:}
        name=${name%:*}
        ;;
    esac
    VALUES+=(--set-string "image.registry=,image.repository=$name,image.tag=$tag,image.digest=$digest")
  fi
  [ -z "$SCANNER_IMAGE" ] || VALUES+=(--set-string "scanner.image=$SCANNER_IMAGE")
  [ -z "$POSTGRES_IMAGE" ] || VALUES+=(--set-string "postgres.image=$POSTGRES_IMAGE")
}

# release_mark: what the release says it was made of, and its status; nothing if there is no
# release, an error if there is one that is not ours.
release_mark() {
  local found
  # Helm keeps a Secret for each revision.
  found=$(kubectl --namespace "$SYSTEM" get secrets --selector "owner=helm,name=$RELEASE" --sort-by .metadata.creationTimestamp \
    --output "jsonpath={range .items[*]}{.metadata.labels.$MARK} {.metadata.labels.status}{'\n'}{end}" | tail -n 1)
  case "$found" in " "*) die "release $RELEASE in namespace $SYSTEM was not made by this demo; it is left alone" ;; esac
  echo "$found"
}

install() {
  local chart=$top/charts/prowler-operator want have status
  helm_values
  # The chart renders the same bytes each time, so equal bytes need no new revision.
  want=$("$HELM" template "$RELEASE" "$chart" --namespace "$SYSTEM" "${VALUES[@]}" | content_key)
  have=$(release_mark)
  status=${have#* }
  if [ "$have" = "$want deployed" ] && rolled_out 60s >/dev/null 2>&1; then
    log "release $RELEASE is there, nothing to change"
    return
  fi
  # A revision that was cut off blocks the next one.
  case "$status" in
    pending-install | uninstalling) helm uninstall "$RELEASE" --wait >&2 ;;
    pending-upgrade | pending-rollback) helm rollback "$RELEASE" >&2 ;;
  esac
  helm upgrade --install "$RELEASE" "$chart" --create-namespace "${VALUES[@]}" --labels "$MARK=$want" \
    --wait --timeout "${DEMO_TIMEOUT:-10m}" --hide-notes >&2 || {
    explain
    die "helm could not install the chart"
  }
  rolled_out 120s >&2
}

rolled_out() { # TIMEOUT
  local workload
  for workload in statefulset/$RELEASE-postgres deployment/$RELEASE-controller deployment/$RELEASE-server; do
    kubectl --namespace "$SYSTEM" rollout status "$workload" --timeout "$1" || return
  done
}

# What a person would look at first.
explain() {
  local pod
  kubectl --namespace "$SYSTEM" get pods >&2 || true
  for pod in $(kubectl --namespace "$SYSTEM" get pods --output name); do
    kubectl --namespace "$SYSTEM" logs "$pod" --all-containers --tail 15 --prefix >&2 || true
  done
}

start_emulator() {
  local manifest=$top/examples/demo-emulator/emulator.yaml
  if [ -n "$EMULATOR_IMAGE" ]; then
    sed "s|image: docker.io/motoserver/moto:.*|image: $EMULATOR_IMAGE|" "$manifest"
  else
    cat "$manifest"
  fi | kubectl apply --filename - >&2
  kubectl --namespace "$EMULATOR" rollout status deployment/emulator --timeout 300s >&2
}

apply_example() { kubectl apply --filename "$top/examples/demo" >&2; }

# --- What is seen ------------------------------------------------------------------------------

# Waits until the last scan of each Provider has succeeded, and says each change on the way.
wait_for_scans() {
  local deadline=$((SECONDS + 900)) before='' scans providers provider line open
  while :; do
    scans=$(scan_lines)
    while read -r line; do
      if [ -n "$line" ] && ! grep -qxF "$line" <<<"$before"; then log "scan of $line"; fi
    done <<<"$scans"
    before=$scans
    open=
    providers=$(kubectl --namespace "$NAMESPACE" get prowlerproviders --output 'jsonpath={.items[*].metadata.name}')
    for provider in ${providers:-none}; do
      line=$(grep "^$provider: " <<<"$scans" | tail -n 1 || true)
      case "$line" in
        *": completed, Done") ;;
        *": failed, "* | *": cancelled, "*)
          kubectl --namespace "$NAMESPACE" get prowlerscans --output wide >&2
          die "a scan did not succeed: $line"
          ;;
        *) open+=" ${line:-$provider: no scan}" ;;
      esac
    done
    [ -n "$open" ] || return 0
    if [ $SECONDS -ge $deadline ]; then
      kubectl get prowler --all-namespaces --output wide >&2 || true
      kubectl --namespace "$NAMESPACE" get jobs,pods >&2 || true
      die "no result after 15 minutes:$open"
    fi
    sleep 1
  done
}

# Oldest first.
scan_lines() {
  kubectl --namespace "$NAMESPACE" get prowlerscans --sort-by .metadata.creationTimestamp --output \
    'jsonpath={range .items[*]}{.spec.providerRef.name}: {.status.state}, {.status.stage}{"\n"}{end}'
}

show() {
  echo
  echo "kubectl get prowler -A"
  kubectl get prowler --all-namespaces
  echo
  echo "Findings of tenant $TENANT, read from Postgres as prowler_user"
  {
    printf 'account\tseverity\tfail\tpass\tmanual\tmuted\n'
    run_sql user "$TENANT" "$(cat "$hack/lib/demo-findings.sql")"
  } | column -t -s $'\t' | sed 's/^/  /'
}

# --- SQL ---------------------------------------------------------------------------------------

# run_sql user|admin TENANT-NAME-OR-EMPTY SQL
run_sql() {
  local url id
  url=$(kubectl --namespace "$SYSTEM" get secret "$RELEASE-database" --output "jsonpath={.data.$1-url}" | base64 -d)
  if [ -z "$2" ]; then
    psql_in_pod "$url" <<<"$3"
    return
  fi
  id=$(tenant_id "$2")
  psql_in_pod "$url" <<<"begin; set local api.tenant_id = '$id'; $3
; commit;"
}

tenant_id() { # NAME
  local id
  [[ "$1" =~ ^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$ ]] || die "'$1' is not the name of a Tenant"
  id=$(run_sql admin "" "select id from tenants where name = '$1'")
  [ -n "$id" ] || die "the database has no tenant '$1'"
  echo "$id"
}

# The URL goes in as the first line of the input: as an argument it would be seen on this machine.
psql_in_pod() { # URL; SQL on stdin
  # shellcheck disable=SC2016
  { echo "$1" && cat; } | kubectl --namespace "$SYSTEM" exec --stdin "statefulset/$RELEASE-postgres" --container postgres -- \
    sh -c 'read -r url; PGOPTIONS="-c search_path=prowler" exec psql "$url" -XqAt -F "	" -v ON_ERROR_STOP=1 -f -'
}

# --- Taking it away ----------------------------------------------------------------------------

# First what only a running controller can delete, then the rest.
remove_from_cluster() {
  local mark
  mark=$(release_mark)
  if [ -n "$mark" ] && kubectl get crd prowlertenants.prowler-operator.dev >/dev/null 2>&1; then
    log "deleting the tenant and what belongs to it"
    kubectl delete --filename "$top/examples/demo" --ignore-not-found --wait --timeout 300s >&2
  fi
  kubectl delete namespace "$EMULATOR" --ignore-not-found >&2
  if [ -n "$mark" ]; then
    log "uninstalling"
    helm uninstall "$RELEASE" --wait >&2
    # Uninstalling leaves these on purpose.
    kubectl delete crd --selector "app.kubernetes.io/instance=$RELEASE,app.kubernetes.io/part-of=prowler-operator" >&2
    kubectl delete namespace "$SYSTEM" --ignore-not-found >&2
  fi
  log "the demo is gone"
}
