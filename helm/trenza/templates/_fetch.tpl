{{/* Where a pool's models lie, and the init container that brings them there: dict "root" $ "spec" the pool's values "name" its object's. */}}

{{- define "trenza.models.root" -}}
{{- .storage.modelsRoot | default (eq .storage.type "builtin" | ternary "/opt/trenza/models/starter" "/models") -}}
{{- end -}}

{{- define "trenza.models.volumes" -}}
{{- $storage := .spec.storage -}}
{{- if ne $storage.type "builtin" }}
- name: models
  {{- if eq $storage.type "pvc" }}
  persistentVolumeClaim:
    claimName: {{ $storage.pvc.existingClaim | default (printf "%s-models" .name) }}
  {{- else if eq $storage.type "image" }}
  image:
    {{- toYaml $storage.image | nindent 4 }}
  {{- else if eq $storage.type "emptyDir" }}
  emptyDir:
    {{- include "trenza.emptyDir" $storage.emptyDir | nindent 4 }}
  {{- else }}
  hostPath:
    path: {{ $storage.hostPath.path }}
    {{- with $storage.hostPath.type }}
    type: {{ . }}
    {{- end }}
  {{- end }}
{{- end }}
{{- if include "trenza.pools.fetched" .spec | fromYamlArray }}
- name: fetch
  configMap:
    name: {{ .name }}-models
{{- with .spec.fetch.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Replicas only read. */}}
{{- define "trenza.models.mounts" -}}
{{- if ne .spec.storage.type "builtin" }}
- name: models
  mountPath: /models
  readOnly: true
{{- end }}
{{- end -}}

{{- define "trenza.models.initContainers" -}}
{{- if include "trenza.pools.fetched" .spec | fromYamlArray }}
- name: fetch
  image: {{ include "trenza.image" (dict "root" .root "component" "fetch") }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: [--config, /etc/trenza/fetch.toml, --into, /models]
  # `kubectl describe` tells what could not be fetched.
  terminationMessagePolicy: FallbackToLogsOnError
  securityContext:
    {{- include "trenza.securityContext" . | nindent 4 }}
  env:
    - {name: TRENZA_LOG_LEVEL, value: {{ .root.Values.logs.level }}}
    - {name: TRENZA_LOG_FORMAT, value: {{ .root.Values.logs.format }}}
    {{- range $name, $value := .spec.fetch.env }}
    {{- include "trenza.variable" (dict "name" $name "value" $value) | nindent 4 }}
    {{- end }}
  {{- with .spec.fetch.credentialsSecret }}
  envFrom:
    - secretRef:
        name: {{ . }}
  {{- end }}
  resources:
    {{- toYaml .spec.fetch.resources | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: models, mountPath: /models}
    - {name: fetch, mountPath: /etc/trenza/fetch.toml, subPath: fetch.toml, readOnly: true}
    {{- with .spec.fetch.volumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- end -}}

{{/* The configuration of the fetching container. A string of JSON is one of TOML too. */}}
{{- define "trenza.models.fetchConfig" -}}
{{- range $name, $model := .models }}
{{- if $model.source }}
[[model]]
name = {{ $name | toJson }}
modality = {{ $.modality | toJson }}
source = {{ $model.source | toJson }}
{{- with $model.files }}
files = {{ toJson . }}
{{- end }}
{{- with $model.manifest }}
manifest = {{ toJson . }}
{{- end }}
{{- with $model.sha256 }}

[model.sha256]
{{- range $file, $digest := . }}
{{ toJson $file }} = {{ toJson $digest }}
{{- end }}
{{- end }}

{{ end }}
{{- end }}
{{- end -}}

{{- define "trenza.models.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "trenza.metadata" (mergeOverwrite (dict) . (dict "name" (printf "%s-models" .name))) | nindent 2 }}
data:
  fetch.toml: |
    {{- include "trenza.models.fetchConfig" .spec | nindent 4 }}
{{- end -}}

{{- define "trenza.models.claim" -}}
{{- $pvc := .spec.storage.pvc -}}
{{- $keep := $pvc.keep | ternary (dict "helm.sh/resource-policy" "keep") dict -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  {{- include "trenza.metadata" (mergeOverwrite (dict) . (dict "name" (printf "%s-models" .name) "annotations" (mergeOverwrite $keep $pvc.annotations))) | nindent 2 }}
spec:
  accessModes:
    {{- toYaml $pvc.accessModes | nindent 4 }}
  {{- with $pvc.storageClassName }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ $pvc.size }}
{{- end -}}
