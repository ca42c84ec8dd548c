# What "down" does: stops what we started and leaves the machine as it was. Needs the variables
# set in hack/local-cluster.
# shellcheck shell=bash

# Containers outlive the kubelet, containerd and even their shims. Ours are known by the bundles
# below our state; a process id found there counts only if its cgroup names the container, since
# ids are recycled.
kill_containers() {
  local bundle id pid process
  for bundle in "$STATE"/containerd/state/io.containerd.runtime.v2.task/k8s.io/*/; do
    [ -e "$bundle/init.pid" ] || continue
    id=$(basename "$bundle")
    pid=$(cat "$bundle/init.pid")
    if grep -q "$id" "/proc/$pid/cgroup" 2>/dev/null; then kill -KILL "$pid" 2>/dev/null || true; fi
  done
  # The shims carry our socket's path as an argument.
  for process in /proc/[0-9]*; do
    if tr '\0' '\n' 2>/dev/null <"$process/cmdline" | grep -qxF "$CONTAINERD_SOCKET" &&
      [ "$(cat "$process/comm" 2>/dev/null)" = containerd-shim ]; then
      kill -KILL "${process#/proc/}" 2>/dev/null || true
    fi
  done
}

# Everything mounted below our state (volumes, root file systems, network namespaces), deepest
# first. A busy one is detached at once and goes with its last user.
unmount_all() {
  local path
  awk -v d="$STATE/" 'index($5, d) == 1 {print $5}' /proc/self/mountinfo | sort -r | while read -r path; do
    path=$(printf '%b' "$path") # mountinfo writes spaces as \040
    umount "$path" 2>/dev/null || umount -l "$path"
  done
}

# kube-proxy keeps to tables of its own. The CNI plug-ins tag their rules with our network's name;
# those of pods that were not torn down in order are left over.
clean_network() {
  local family chain rule
  for family in ip ip6; do nft delete table "$family" kube-proxy 2>/dev/null || true; done
  if command -v iptables >/dev/null; then
    iptables -t nat -S POSTROUTING 2>/dev/null | grep -F "\"$NETWORK\\\"" | sed 's/^-A/-D/' |
      while read -r rule; do
        eval "iptables -t nat $rule" 2>/dev/null || true
        chain=$(grep -oE -- '-j CNI-[0-9a-f]+' <<<"$rule" | cut -d' ' -f2)
        iptables -t nat -F "$chain" 2>/dev/null || true
        iptables -t nat -X "$chain" 2>/dev/null || true
      done || true
  fi
  ip link delete "$BRIDGE" 2>/dev/null || true
  ip addr del "$NODE_IP/32" dev lo 2>/dev/null || true
  if [ -e "$STATE/ip_forward" ]; then cat "$STATE/ip_forward" >/proc/sys/net/ipv4/ip_forward 2>/dev/null || true; fi
}

clean_cgroups() {
  local dir
  # cgroup v1 has a tree per controller, v2 a single one.
  for dir in /sys/fs/cgroup/kubepods /sys/fs/cgroup/*/kubepods; do
    [ -d "$dir" ] && find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
}

clean_state() {
  local link
  for link in /var/log/containers/*; do
    # The kubelet leaves links to its logs there.
    case "$(readlink "$link" 2>/dev/null)" in "$STATE"/*) rm -f "$link" ;; esac
  done
  if awk -v d="$STATE/" 'index($5, d) == 1 {exit 1}' /proc/self/mountinfo; then
    rm -rf --one-file-system "$STATE"
  else
    die "something is still mounted below $STATE; not deleting it"
  fi
}
