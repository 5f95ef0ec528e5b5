{{/* The name of everything here: the release's, with the chart's where the release does not say it. */}}
{{- define "vmi.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "vmi.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "vmi.labels" -}}
{{ include "vmi.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "vmi.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "vmi.name" .) -}}
{{- end -}}

{{- define "vmi.clusterResourceNamespace" -}}
{{- .Values.clusterResourceNamespace | default .Release.Namespace -}}
{{- end -}}

{{/* The number at the end of httpAddress, which may be written "[::]:8080". */}}
{{- define "vmi.port" -}}
{{- splitList ":" .Values.httpAddress | last -}}
{{- end -}}

{{/* What it takes to read the objects that issuers name. Never `list`: each object is watched by its own name. */}}
{{- define "vmi.referenceRules" -}}
# Secrets hold Vault credentials, CA bundles and client certificates; ConfigMaps hold CA bundles and trust anchors.
# `get` reads an object that an issuer names, `watch` lets a change of it take effect at once.
- apiGroups: [""]
  resources: [secrets, configmaps]
  verbs: [get, watch]
{{- end -}}

{{/* What it takes to write trust anchors where issuers publish them: only what the values allow, and never `delete`. */}}
{{- define "vmi.publishRules" -}}
{{- with .Values.publish -}}
# An issuer's trust anchors are applied under one key of the object that its spec.trust.publish names.
- apiGroups: [""]
  resources: [{{ if .configMaps }}configmaps{{ end }}{{ if and .configMaps .secrets }}, {{ end }}{{ if .secrets }}secrets{{ end }}]
  {{- if .create }}
  # An apply to an object that does not exist needs `create` too.
  verbs: [patch, create]
  {{- else }}
  verbs: [patch]
  {{- end }}
{{- end }}
{{- end -}}
