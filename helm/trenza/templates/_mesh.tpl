{{/* Mutual TLS between the components: whose certificate lies where, and who issues it. */}}

{{- define "trenza.mesh.issued" -}}
{{- and .Values.mtls.enabled (eq .Values.mtls.mode "certManager") -}}
{{- end -}}

{{/* The Secret with tls.crt, tls.key and ca.crt: dict "root" $ "name" of the object "component" whose identity. */}}
{{- define "trenza.mesh.secretName" -}}
{{- $mtls := .root.Values.mtls -}}
{{- if eq $mtls.mode "certManager" -}}
{{ .name }}-mesh
{{- else -}}
{{- $given := get $mtls.secretNames .component | default $mtls.secretName -}}
{{- required (printf "mtls.mode is secret: set mtls.secretName, or mtls.secretNames.%s" .component) $given -}}
{{- end -}}
{{- end -}}

{{/* An identity is a DNS name of the certificate. KEDA knows the scheduler by its address only, so that has the address too. */}}
{{- define "trenza.mesh.certificate" -}}
{{- $mtls := .root.Values.mtls -}}
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  {{- include "trenza.metadata" (mergeOverwrite (dict) . (dict "name" (printf "%s-mesh" .name))) | nindent 2 }}
spec:
  secretName: {{ .name }}-mesh
  duration: {{ $mtls.duration }}
  renewBefore: {{ $mtls.renewBefore }}
  privateKey:
    algorithm: ECDSA
    size: 256
    rotationPolicy: Always
  usages: [digital signature, key encipherment, server auth, client auth]
  dnsNames:
    - {{ .component }}.trenza.mesh
    {{- if eq .component "scheduler" }}
    - {{ .name }}
    - {{ .name }}.{{ .root.Release.Namespace }}.svc
    - {{ .name }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.network.clusterDomain }}
    {{- end }}
  issuerRef:
    {{- if $mtls.issuerRef.name }}
    {{- toYaml $mtls.issuerRef | nindent 4 }}
    {{- else }}
    name: {{ include "trenza.fullname" .root }}-mesh
    kind: Issuer
    group: cert-manager.io
    {{- end }}
{{- end -}}
