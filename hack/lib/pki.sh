# Certificates and kubeconfigs of the local cluster. Needs PKI, KUBECONFIGS, NODE_IP, SERVER.
# shellcheck shell=bash

# ec_key FILE: elliptic curves because they take milliseconds, RSA keys seconds.
ec_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

# cert NAME SUBJECT [SAN]
cert() {
  local f=$PKI/$1
  ec_key "$f.key"
  openssl req -new -key "$f.key" -subj "$2" -out "$f.csr"
  openssl x509 -req -in "$f.csr" -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -days 3650 -sha256 \
    -set_serial "0x$(openssl rand -hex 8)" -out "$f.crt" -extfile <(
      echo "basicConstraints=CA:FALSE"
      echo "keyUsage=digitalSignature"
      echo "extendedKeyUsage=clientAuth,serverAuth"
      [ -z "${3:-}" ] || echo "subjectAltName=$3"
    ) 2>/dev/null
  rm "$f.csr"
}

# kubeconfig NAME: self-contained, so that the admin one can be copied about.
kubeconfig() {
  cat >"$KUBECONFIGS/$1.conf" <<YAML
apiVersion: v1
kind: Config
current-context: prowler-local
clusters:
- name: prowler-local
  cluster:
    server: $SERVER
    certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")
contexts:
- name: prowler-local
  context: {cluster: prowler-local, user: $1}
users:
- name: $1
  user:
    client-certificate-data: $(base64 -w0 "$PKI/$1.crt")
    client-key-data: $(base64 -w0 "$PKI/$1.key")
YAML
}

# Made once per cluster; a set that was cut short is made again from the start.
make_pki() {
  [ -e "$PKI/complete" ] && return
  rm -rf "$PKI" "$KUBECONFIGS"
  (umask 077 && mkdir -p "$PKI" "$KUBECONFIGS")
  ec_key "$PKI/ca.key"
  openssl req -x509 -new -key "$PKI/ca.key" -subj /CN=prowler-local -days 3650 -sha256 -out "$PKI/ca.crt"
  ec_key "$PKI/service-account.key"
  openssl ec -in "$PKI/service-account.key" -pubout -out "$PKI/service-account.pub" 2>/dev/null
  cert kube-apiserver /CN=kube-apiserver "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:$SERVICE_API_IP,IP:$NODE_IP"
  cert admin /O=system:masters/CN=admin
  cert kube-apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
  cert kube-controller-manager /CN=system:kube-controller-manager
  cert kube-scheduler /CN=system:kube-scheduler
  cert kube-proxy /CN=system:kube-proxy
  cert kubelet "/O=system:nodes/CN=system:node:$NODE_NAME" "DNS:$NODE_NAME,IP:$NODE_IP"
  cert coredns /CN=system:coredns
  local name
  for name in admin kube-controller-manager kube-scheduler kube-proxy kubelet coredns; do kubeconfig "$name"; done
  chmod 600 "$PKI"/*.key "$KUBECONFIGS"/*
  touch "$PKI/complete"
  log "certificates made"
}
