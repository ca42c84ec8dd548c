{{- define "prowler-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Room is left for the longest suffix below the 63 characters of a label. */}}
{{- define "prowler-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "prowler-operator.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "prowler-operator.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "prowler-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "prowler-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "prowler-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{ include "prowler-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: prowler-operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "prowler-operator.image" -}}
{{- with .Values.image -}}
{{- if .registry }}{{ .registry }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "prowler-operator.controllerAccount" -}}
{{- .Values.controller.serviceAccount.name | default (printf "%s-controller" (include "prowler-operator.fullname" .)) }}
{{- end }}

{{- define "prowler-operator.serverAccount" -}}
{{- .Values.server.serviceAccount.name | default (printf "%s-server" (include "prowler-operator.fullname" .)) }}
{{- end }}

{{- define "prowler-operator.secretReader" -}}
{{ include "prowler-operator.fullname" . }}-secret-reader
{{- end }}

{{- define "prowler-operator.scansPolicy" -}}
{{ include "prowler-operator.fullname" . }}-scans
{{- end }}

{{/* All that scan pods may connect to, with scanner.networkPolicy. */}}
{{- define "prowler-operator.scansEgress" -}}
# Names.
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
# Findings.
- to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ .Release.Namespace | quote }}}}
      podSelector: {matchLabels: {{ merge (dict "app.kubernetes.io/component" "server") (include "prowler-operator.selectorLabels" . | fromYaml) | toJson }}}
  ports:
    - {port: 8443, protocol: TCP}
{{- with .Values.scanner.networkPolicy.egress }}
{{ toYaml . }}
{{- else }}
# Clouds, and not the metadata of nodes.
- to:
    - ipBlock: {cidr: 0.0.0.0/0, except: [169.254.0.0/16]}
    - ipBlock: {cidr: "::/0", except: ["fe80::/10", "fd00:ec2::/32"]}
{{- end }}
{{- end }}

{{- define "prowler-operator.lease" -}}
{{ include "prowler-operator.fullname" . }}-controller
{{- end }}

{{- define "prowler-operator.installationSecret" -}}
{{ include "prowler-operator.fullname" . }}-installation
{{- end }}

{{- define "prowler-operator.serverTlsSecret" -}}
{{- .Values.server.tls.existingSecret | default (printf "%s-server-tls" (include "prowler-operator.fullname" .)) }}
{{- end }}

{{/* "true" when `bootstrap` makes the server's certificate. */}}
{{- define "prowler-operator.ownCertificate" -}}
{{- if not (or .Values.server.tls.existingSecret .Values.server.tls.certManager.enabled) }}true{{ end }}
{{- end }}

{{- define "prowler-operator.databaseSecret" -}}
{{- if .Values.database.embedded }}
{{- if .Values.database.existingSecret }}
{{- fail "database.embedded and database.existingSecret exclude each other: choose the Postgres of this chart (for evaluation) or your own" }}
{{- end }}
{{- include "prowler-operator.fullname" . }}-database
{{- else }}
{{- required "no database: name a Secret with the keys user-url and admin-url in database.existingSecret, or set database.embedded=true for an evaluation" .Values.database.existingSecret }}
{{- end }}
{{- end }}

{{- define "prowler-operator.serverHost" -}}
{{ include "prowler-operator.fullname" . }}-server.{{ .Release.Namespace }}.svc
{{- end }}

{{- define "prowler-operator.postgresHost" -}}
{{ include "prowler-operator.fullname" . }}-postgres.{{ .Release.Namespace }}.svc
{{- end }}

{{/* Where every container that reaches the database finds the CA that the URLs name. */}}
{{- define "prowler-operator.databaseCaDir" -}}
/var/run/prowler-operator/database
{{- end }}

{{- define "prowler-operator.logEnv" -}}
- name: LOG_LEVEL
  value: {{ .Values.log.level | quote }}
- name: LOG_FORMAT
  value: {{ .Values.log.format }}
{{- end }}

{{- define "prowler-operator.userDatabaseEnv" -}}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ include "prowler-operator.databaseSecret" . | quote }}, key: user-url}
- name: DATABASE_REPLICA_URL
  valueFrom:
    secretKeyRef: {name: {{ include "prowler-operator.databaseSecret" . | quote }}, key: user-replica-url, optional: true}
{{- end }}

{{- define "prowler-operator.adminDatabaseEnv" -}}
- name: DATABASE_ADMIN_URL
  valueFrom:
    secretKeyRef: {name: {{ include "prowler-operator.databaseSecret" . | quote }}, key: admin-url}
- name: DATABASE_ADMIN_REPLICA_URL
  valueFrom:
    secretKeyRef: {name: {{ include "prowler-operator.databaseSecret" . | quote }}, key: admin-replica-url, optional: true}
{{- end }}

{{/* The database's CA straight from the Secret; a Secret of yours need not have one. */}}
{{- define "prowler-operator.databaseCaVolume" -}}
- name: database-ca
  secret:
    secretName: {{ include "prowler-operator.databaseSecret" . | quote }}
    items: [{key: ca.crt, path: ca.crt}]
    {{- if not .Values.database.embedded }}
    optional: true
    {{- end }}
{{- end }}

{{/* Where a pod may run and how urgent it is. Called with the component's values. */}}
{{- define "prowler-operator.scheduling" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "prowler-operator.probes" -}}
livenessProbe:
  httpGet: {path: /livez, port: health}
  periodSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 5
{{- end }}
