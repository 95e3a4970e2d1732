{{- define "raftkv.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "raftkv.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "raftkv.labels" -}}
{{ include "raftkv.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "raftkv.domain" -}}
{{ include "raftkv.fullname" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{- /* RAFTKV_NODE: every founding node, as an array of inline tables. */}}
{{- define "raftkv.nodes" -}}
{{- $name := include "raftkv.fullname" . }}
{{- $domain := include "raftkv.domain" . }}
{{- $nodes := list }}
{{- range $number := until (int .Values.replicas) }}
{{- $pod := printf "%s-%d" $name $number }}
{{- $host := printf "%s.%s" $pod $domain }}
{{- $etcd := ternary (printf `, etcd = "%s:2379", etcd_bind = "*:2379"` $host) "" $.Values.etcd.enabled }}
{{- $nodes = append $nodes (printf `{id = "%s", http = "%s:8001", http_bind = "*:8001", peer = "%s:9001", peer_bind = "*:9001"%s}` $pod $host $host $etcd) }}
{{- end }}
{{- printf "[%s]" (join ", " $nodes) }}
{{- end }}

{{- define "raftkv.servers" -}}
{{- $urls := list }}
{{- range $number := until (int .Values.replicas) }}
{{- $scheme := ternary "https" "http" (not (empty $.Values.tls.http)) }}
{{- $urls = append $urls (printf "%s://%s-%d.%s:8001" $scheme (include "raftkv.fullname" $) $number (include "raftkv.domain" $)) }}
{{- end }}
{{- join "," $urls }}
{{- end }}

{{- define "raftkv.hosts" -}}
{{- $client := printf "%s-client" (include "raftkv.fullname" .) }}
{{- $namespaced := printf "%s.%s" $client .Release.Namespace }}
{{- $hosts := list $client $namespaced (printf "%s.svc" $namespaced) (printf "%s.svc.%s" $namespaced .Values.clusterDomain) }}
{{- concat $hosts .Values.hosts | toJson }}
{{- end }}

{{- /* A key that a Secret of this name holds already, or a new one: made once. */}}
{{- define "raftkv.kept" -}}
{{- $found := lookup "v1" "Secret" .context.Release.Namespace .name }}
{{- if $found }}{{ index $found.data .key }}{{ else }}{{ randAlphaNum 64 | b64enc }}{{ end }}
{{- end }}
