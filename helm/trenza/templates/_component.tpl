{{/*
The one template that every component is made from: dict "root" $ "spec" values "part" what is particular to it.

A part says: name, component, pool (of pools only), prefix (of its settings), image, replicas (left out where something else
scales), strategy, graceSeconds, ports, services, env, volumes, mounts, initContainers, tolerations, limits, runtimeClassName,
podAnnotations, ingress and egress (rules of the NetworkPolicy), autoscaler.
*/}}
{{- define "trenza.component" -}}
{{- $context := mergeOverwrite (dict) . (dict "name" .part.name "component" .part.component "pool" .part.pool) -}}
{{- if not .spec.serviceAccount.name }}
---
{{ include "trenza.component.serviceAccount" $context }}
{{- end }}
---
{{ include "trenza.component.deployment" $context }}
{{- range .part.services }}
---
{{ include "trenza.component.service" (mergeOverwrite (dict) $context (dict "service" .)) }}
{{- end }}
{{- if .spec.pdb.enabled }}
---
{{ include "trenza.component.disruptionBudget" $context }}
{{- end }}
{{- if .root.Values.networkPolicy.enabled }}
---
{{ include "trenza.component.networkPolicy" $context }}
{{- end }}
{{- if eq (include "trenza.mesh.issued" .root) "true" }}
---
{{ include "trenza.mesh.certificate" (dict "root" .root "name" .part.name "component" .part.component "pool" .part.pool) }}
{{- end }}
{{- with .part.autoscaler }}
---
{{ include (printf "trenza.autoscaler.%s" .mode) (mergeOverwrite (dict) $context (dict "autoscaler" .)) }}
{{- end }}
{{- end -}}

{{- define "trenza.component.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "trenza.metadata" (mergeOverwrite (dict) . (dict "annotations" .spec.serviceAccount.annotations)) | nindent 2 }}
automountServiceAccountToken: false
{{- end -}}

{{- define "trenza.component.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "trenza.metadata" . | nindent 2 }}
spec:
  {{- if hasKey .part "replicas" }}
  replicas: {{ .part.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  # A start may take long and is no failure: models are fetched and loaded.
  progressDeadlineSeconds: {{ add .spec.startupSeconds 600 }}
  strategy:
    {{- toYaml .part.strategy | nindent 4 }}
  selector:
    matchLabels:
      {{- include "trenza.selectorLabels" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- toYaml (mergeOverwrite (deepCopy .root.Values.commonLabels) .spec.podLabels (include "trenza.selectorLabels" . | fromYaml)) | nindent 8 }}
      annotations:
        kubectl.kubernetes.io/default-container: {{ .component }}
        {{- with mergeOverwrite (deepCopy .root.Values.commonAnnotations) (.part.podAnnotations | default dict) .spec.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "trenza.component.pod" . | nindent 6 }}
{{- end -}}

{{- define "trenza.component.pod" -}}
serviceAccountName: {{ .spec.serviceAccount.name | default .name }}
automountServiceAccountToken: false
# Services' names would become variables that begin as settings do.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .part.graceSeconds }}
{{- with .part.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .spec.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- mergeOverwrite (include "trenza.podSecurityContext" . | fromYaml) .spec.podSecurityContext | toYaml | nindent 2 }}
{{- with .part.initContainers }}
initContainers:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - {{- include "trenza.component.container" . | nindent 4 }}
  {{- with .spec.extraContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes:
  {{- include "trenza.component.volumes" . | nindent 2 }}
{{- include "trenza.component.placement" . }}
{{- end -}}

{{- define "trenza.component.container" -}}
name: {{ .component }}
image: {{ .part.image | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  {{- mergeOverwrite (include "trenza.securityContext" . | fromYaml) .spec.securityContext | toYaml | nindent 2 }}
env:
  {{- include "trenza.component.environment" . | nindent 2 }}
{{- with .spec.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  {{- range $name, $port := mergeOverwrite (dict "metrics" 9100 "health" 9101) .part.ports }}
  - name: {{ $name }}
    containerPort: {{ $port }}
    protocol: TCP
  {{- end }}
{{- include "trenza.component.probes" . }}
{{- if .spec.preStopSleepSeconds }}
lifecycle:
  preStop:
    sleep:
      seconds: {{ .spec.preStopSleepSeconds }}
{{- end }}
resources:
  {{- mergeOverwrite (deepCopy .spec.resources) (dict "limits" (.part.limits | default dict)) | toYaml | nindent 2 }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
  {{- if .spec.sharedMemory }}
  - name: shared-memory
    mountPath: /dev/shm
  {{- end }}
  {{- if .root.Values.mtls.enabled }}
  - name: mesh
    mountPath: /etc/trenza/mesh
    readOnly: true
  {{- end }}
  {{- with concat (.part.mounts | default list) .spec.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* kubelet asks the health port, which speaks plain gRPC and knows three services. Loading delays `startup` and fails nothing. */}}
{{- define "trenza.component.probes" }}
startupProbe:
  grpc: {port: 9101, service: startup}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: {{ div (add .spec.startupSeconds 4) 5 }}
readinessProbe:
  grpc: {port: 9101, service: readiness}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
livenessProbe:
  grpc: {port: 9101, service: liveness}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{/* What each says for itself wins over what all say, and values over both. POD_IP comes first: others are made of it. */}}
{{- define "trenza.component.environment" -}}
{{- $all := include "trenza.environment" . | fromYaml -}}
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- range $name, $value := mergeOverwrite $all (.part.env | default dict) .spec.env }}
{{ include "trenza.variable" (dict "name" $name "value" $value) }}
{{- end }}
{{- end -}}

{{- define "trenza.variable" -}}
- name: {{ .name }}
{{- if kindIs "map" .value }}
  {{- toYaml .value | nindent 2 }}
{{- else if kindIs "float64" .value }}
  value: {{ .value | toJson | quote }}
{{- else }}
  value: {{ .value | toString | quote }}
{{- end }}
{{- end -}}

{{- define "trenza.environment" -}}
TRENZA_LOG_LEVEL: {{ .root.Values.logs.level }}
TRENZA_LOG_FORMAT: {{ .root.Values.logs.format }}
{{ .part.prefix }}_HOST: {{ eq .root.Values.network.ipFamily "IPv6" | ternary "::" "0.0.0.0" | quote }}
{{ .part.prefix }}_METRICS_PORT: 9100
{{ .part.prefix }}_HEALTH_PORT: 9101
{{ .part.prefix }}_DRAIN_S: {{ include "trenza.drainSeconds" . }}
{{- if .root.Values.mtls.enabled }}
TRENZA_TLS_CERT_FILE: /etc/trenza/mesh/tls.crt
TRENZA_TLS_KEY_FILE: /etc/trenza/mesh/tls.key
TRENZA_TLS_CA_FILE: /etc/trenza/mesh/ca.crt
{{- end }}
{{- end -}}

{{/* How long requests may take to finish: what is said, or as long as any request may take. */}}
{{- define "trenza.drainSeconds" -}}
{{- if kindIs "invalid" .spec.drainSeconds }}{{ .root.Values.gateway.requestSeconds }}{{ else }}{{ .spec.drainSeconds }}{{ end -}}
{{- end -}}

{{- define "trenza.component.volumes" -}}
- name: tmp
  emptyDir:
    {{- include "trenza.emptyDir" .spec.tmp | nindent 4 }}
{{- with .spec.sharedMemory }}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ . }}
{{- end }}
{{- if .root.Values.mtls.enabled }}
- name: mesh
  secret:
    secretName: {{ include "trenza.mesh.secretName" . }}
    defaultMode: 0440
{{- end }}
{{- with concat (.part.volumes | default list) .spec.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "trenza.emptyDir" -}}
{{- $folder := dict -}}
{{- with .sizeLimit }}{{ $_ := set $folder "sizeLimit" . }}{{ end -}}
{{- with .medium }}{{ $_ := set $folder "medium" . }}{{ end -}}
{{ toYaml $folder }}
{{- end -}}

{{- define "trenza.component.placement" -}}
{{- with .spec.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat (.part.tolerations | default list) .spec.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .spec.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if hasKey .spec "topologySpreadConstraints" }}
{{- $selector := dict "labelSelector" (dict "matchLabels" (include "trenza.selectorLabels" . | fromYaml)) }}
topologySpreadConstraints:
  {{- range .spec.topologySpreadConstraints | default (include "trenza.usualSpread" . | fromYamlArray) }}
  - {{- mergeOverwrite (deepCopy $selector) . | toYaml | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "trenza.usualSpread" -}}
- {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, matchLabelKeys: [pod-template-hash]}
- {maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: ScheduleAnyway, matchLabelKeys: [pod-template-hash]}
{{- end -}}

{{/* The restricted Pod Security profile. */}}
{{- define "trenza.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "trenza.securityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
{{- end -}}

{{- define "trenza.component.service" -}}
{{- $service := .service -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "trenza.metadata" (mergeOverwrite (dict) . (dict "name" .service.name "annotations" (.service.annotations | default dict))) | nindent 2 }}
spec:
  {{- toYaml .service.spec | nindent 2 }}
  ports:
    {{- toYaml .service.ports | nindent 4 }}
  selector:
    {{- include "trenza.selectorLabels" . | nindent 4 }}
{{- end -}}

{{- define "trenza.component.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "trenza.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .spec.pdb.maxUnavailable }}
  # A pod that does not become ready must not hold up a drain.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "trenza.selectorLabels" . | nindent 6 }}
{{- end -}}

{{- define "trenza.component.networkPolicy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "trenza.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "trenza.selectorLabels" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- concat .part.ingress (list (include "trenza.network.fromMonitoring" .root | fromYaml)) .spec.networkPolicy.extraIngress | toYaml | nindent 4 }}
  {{- with concat .part.egress .spec.networkPolicy.extraEgress }}
  egress:
    {{- toYaml . | nindent 4 }}
  {{- else }}
  egress: []
  {{- end }}
{{- end -}}
