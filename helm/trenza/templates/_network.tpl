{{/* The edges of the network: who may speak to whom, as rules of NetworkPolicies. */}}

{{/* Pods of this release: dict "root" $ "component" name, or "pools" true for every pool. */}}
{{- define "trenza.network.peer" -}}
podSelector:
  matchLabels:
    app.kubernetes.io/name: trenza
    app.kubernetes.io/instance: {{ .root.Release.Name }}
    {{- with .component }}
    app.kubernetes.io/component: {{ . }}
    {{- end }}
  {{- if .pools }}
  matchExpressions:
    - {key: trenza.dev/pool, operator: Exists}
  {{- end }}
{{- end -}}

{{- define "trenza.network.tcp" -}}
{{- range . }}
- {protocol: TCP, port: {{ . }}}
{{- end }}
{{- end -}}

{{- define "trenza.network.fromMonitoring" -}}
from:
  - namespaceSelector:
      {{- toYaml .Values.monitoring.namespaceSelector | nindent 6 }}
ports:
  - {protocol: TCP, port: 9100}
{{- end -}}

{{- define "trenza.network.toNames" -}}
to:
  {{- toYaml .Values.networkPolicy.dns.to | nindent 2 }}
ports:
  {{- range .Values.networkPolicy.dns.ports }}
  - {protocol: UDP, port: {{ . }}}
  - {protocol: TCP, port: {{ . }}}
  {{- end }}
{{- end -}}

{{- define "trenza.network.toScheduler" -}}
to:
  - {{- include "trenza.network.peer" (dict "root" . "component" "scheduler") | nindent 4 }}
ports:
  - {protocol: TCP, port: 9091}
{{- end -}}

{{/* Networks beyond the cluster: dict "root" $ "ports" list. */}}
{{- define "trenza.network.toExternal" -}}
to:
  {{- toYaml .root.Values.networkPolicy.external.to | nindent 2 }}
ports:
  {{- include "trenza.network.tcp" .ports | nindent 2 }}
{{- end -}}
