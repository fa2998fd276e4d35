{{/* What Prometheus and Grafana are told. */}}

{{/* Metadata of an object that may lie in a namespace of its own: as trenza.metadata, with "namespace". */}}
{{- define "trenza.monitoring.metadata" -}}
{{- $metadata := include "trenza.metadata" . | fromYaml -}}
{{- with .namespace }}{{ $_ := set $metadata "namespace" . }}{{ end -}}
{{- toYaml $metadata -}}
{{- end -}}

{{/*
A ServiceMonitor: dict "root" $ "name" … "component" … "selector" a label selector beyond those of the release.

Series get the labels component, and pool and modality where a pool's Service has them; alerts and dashboards select by those. The
container's name and the port's say nothing more.
*/}}
{{- define "trenza.monitoring.serviceMonitor" -}}
{{- $monitors := .root.Values.monitoring.serviceMonitors -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  {{- include "trenza.metadata" (dict "root" .root "name" .name "component" .component "labels" $monitors.labels) | nindent 2 }}
spec:
  namespaceSelector:
    matchNames: [{{ .root.Release.Namespace }}]
  selector:
    {{- mergeOverwrite (dict "matchLabels" (dict "app.kubernetes.io/name" "trenza" "app.kubernetes.io/instance" .root.Release.Name)) .selector | toYaml | nindent 4 }}
  endpoints:
    - port: metrics
      interval: {{ $monitors.interval }}
      scrapeTimeout: {{ $monitors.scrapeTimeout }}
      relabelings:
        - {sourceLabels: [__meta_kubernetes_service_label_app_kubernetes_io_component], targetLabel: component}
        - {sourceLabels: [__meta_kubernetes_service_label_trenza_dev_pool], targetLabel: pool}
        - {sourceLabels: [__meta_kubernetes_service_label_trenza_dev_modality], targetLabel: modality}
        - {action: labeldrop, regex: container|endpoint}
      metricRelabelings:
        # When a counter began, and Python's garbage collector: nobody asks, and they are a third of all series.
        - {action: drop, sourceLabels: [__name__], regex: .+_created|python_.+}
{{- end -}}
