{{/* Names, labels and images, which every object is made with. */}}

{{- define "trenza.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name -}}
{{- end -}}

{{/* Labels that select the pods of one part: dict "root" $ "component" gateway|scheduler|<modality> ["pool" name]. */}}
{{- define "trenza.selectorLabels" -}}
app.kubernetes.io/name: trenza
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
trenza.dev/pool: {{ . }}
trenza.dev/modality: {{ $.component }}
{{- end }}
{{- end -}}

{{/* All labels of an object: dict "root" $ ["component" …] ["pool" …]. */}}
{{- define "trenza.labels" -}}
{{- $labels := dict "app.kubernetes.io/name" "trenza" "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/version" (.root.Chart.AppVersion | replace "+" "_") "app.kubernetes.io/part-of" "trenza"
  "app.kubernetes.io/managed-by" .root.Release.Service
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") -}}
{{- with .component }}{{ $_ := set $labels "app.kubernetes.io/component" . }}{{ end -}}
{{- if .pool }}{{ $_ := set $labels "trenza.dev/pool" .pool }}{{ $_ := set $labels "trenza.dev/modality" .component }}{{ end -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.commonLabels) $labels) -}}
{{- end -}}

{{/* Metadata of an object: dict "root" $ "name" … ["component" …] ["pool" …] ["annotations" …] ["labels" …]. */}}
{{- define "trenza.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "trenza.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with mergeOverwrite (deepCopy .root.Values.commonAnnotations) (.annotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Reference of a component's image: dict "root" $ "component" … ["variant" cpu|cuda]. */}}
{{- define "trenza.image" -}}
{{- $image := .root.Values.image -}}
{{- $tag := $image.tag | default .root.Chart.AppVersion -}}
{{- if eq (.variant | default "cpu") "cuda" }}{{ $tag = printf "%s-cuda" $tag }}{{ end -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository }}/{{ .component }}:{{ $tag }}
{{- end -}}
