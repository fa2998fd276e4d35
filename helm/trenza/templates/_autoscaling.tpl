{{/* What scales a component: dict "root" $ "name" … "autoscaler" (mode, minReplicas, maxReplicas, cpuPercent or models …). */}}

{{/* Up at once, at most doubling every 15 seconds; down slowly, one replica a minute. */}}
{{- define "trenza.autoscaler.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  selectPolicy: Max
  policies:
    - {type: Percent, value: 100, periodSeconds: 15}
    - {type: Pods, value: 1, periodSeconds: 15}
scaleDown:
  stabilizationWindowSeconds: {{ .stabilizationSeconds }}
  selectPolicy: Max
  policies:
    - {type: Pods, value: 1, periodSeconds: 60}
{{- end -}}

{{- define "trenza.autoscaler.hpa" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "trenza.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ .name }}
  minReplicas: {{ .autoscaler.minReplicas }}
  maxReplicas: {{ .autoscaler.maxReplicas }}
  behavior:
    {{- mergeOverwrite (include "trenza.autoscaler.behavior" .autoscaler | fromYaml) (.autoscaler.behavior | default dict) | toYaml | nindent 4 }}
  metrics:
    {{- with .autoscaler.cpuPercent }}
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ . }}
    {{- end }}
    {{- $root := .root }}
    {{- $component := .component }}
    {{- range $model := .autoscaler.models }}
    - type: External
      external:
        metric:
          name: {{ $root.Values.autoscaling.metricName }}
          selector:
            matchLabels:
              modality: {{ $component }}
              model: {{ $model.name | quote }}
        target:
          type: AverageValue
          averageValue: {{ printf "%dm" (int64 (mulf $model.targetSlots 1000)) }}
    {{- end }}
{{- end -}}

{{- define "trenza.autoscaler.keda" -}}
{{- $root := .root -}}
{{- $component := .component -}}
{{- $keda := .root.Values.autoscaling.keda -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "trenza.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ .name }}
  minReplicaCount: {{ .autoscaler.minReplicas }}
  maxReplicaCount: {{ .autoscaler.maxReplicas }}
  pollingInterval: {{ $keda.pollingIntervalSeconds }}
  cooldownPeriod: {{ $keda.cooldownSeconds }}
  advanced:
    horizontalPodAutoscalerConfig:
      name: {{ .name }}
      behavior:
        {{- mergeOverwrite (include "trenza.autoscaler.behavior" .autoscaler | fromYaml) (.autoscaler.behavior | default dict) | toYaml | nindent 8 }}
  triggers:
    {{- range $model := .autoscaler.models }}
    - type: external-push
      metricType: AverageValue
      metadata:
        scalerAddress: {{ include "trenza.scheduler.address" $root }}
        modality: {{ $component }}
        model: {{ $model.name | quote }}
        targetSlots: {{ $model.targetSlots | toJson | quote }}
        {{- if $root.Values.mtls.enabled }}
        enableTLS: "true"
        {{- end }}
      {{- if $root.Values.mtls.enabled }}
      authenticationRef:
        name: {{ include "trenza.fullname" $root }}-keda
      {{- end }}
    {{- end }}
{{- end -}}
