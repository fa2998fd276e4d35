{{/* What a pool is: its values, its models, what fetches them, and what scales it. */}}

{{/* Every enabled pool with all its values, by name. */}}
{{- define "trenza.pools" -}}
{{- $pools := dict -}}
{{- range $name, $pool := .Values.pools -}}
{{- if $pool -}}
{{- $spec := mergeOverwrite (deepCopy $.Values.poolDefaults) (deepCopy (get $.Values.modalityDefaults $pool.modality | default dict)) (deepCopy $pool) -}}
{{- if $spec.enabled -}}
{{- $_ := set $spec.autoscaling "mode" ($spec.autoscaling.mode | default $.Values.autoscaling.mode) -}}
{{- $_ := set $spec "name" $name -}}
{{- if and (eq $spec.storage.type "emptyDir") (ne $spec.storage.emptyDir.medium "Memory") -}}
{{- include "trenza.pools.roomForModels" $spec -}}
{{- end -}}
{{- $_ := set $pools $name $spec -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $pools -}}
{{- end -}}

{{/*
Changes a pool's values: models in a folder of the pod count as its ephemeral storage. Their size is asked for; a limit would have
the pod evicted for its models, so the folder's own has to do.
*/}}
{{- define "trenza.pools.roomForModels" -}}
{{- range list .resources .fetch.resources -}}
{{- with .limits }}{{ $_ := unset . "ephemeral-storage" }}{{ end -}}
{{- end -}}
{{- with .storage.emptyDir.sizeLimit }}{{ $_ := set ($.resources.requests | default dict) "ephemeral-storage" . }}{{ end -}}
{{- end -}}

{{- define "trenza.pools.starterModels" -}}
chat: [starter-chat]
audio: [starter-voice, starter-whisper]
vision: [starter-vision]
images: [starter-draw]
{{- end -}}

{{/* What the services take where nobody says; their settings' defaults. */}}
{{- define "trenza.pools.usualSlots" -}}
{chat: 4, audio: 8, vision: 4, images: 8}
{{- end -}}

{{/* Models of a pool with the slots that a replica has for each: a list of {name, slots, targetSlots}. */}}
{{- define "trenza.pools.models" -}}
{{- $usual := .slots | default (get (include "trenza.pools.usualSlots" . | fromYaml) .modality) -}}
{{- $models := .models -}}
{{- if and (eq .storage.type "builtin") (not $models) -}}
{{- $models = dict -}}
{{- range get (include "trenza.pools.starterModels" . | fromYaml) .modality }}{{ $_ := set $models . dict }}{{ end -}}
{{- end -}}
{{- $all := list -}}
{{- range $name, $model := $models -}}
{{- $slots := $model.slots | default $usual -}}
{{- $all = append $all (dict "name" $name "slots" $slots "targetSlots" (mulf $slots $.autoscaling.target)) -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* Models that tickets may wait for while no replica of their pool runs: a list of modality/model:slots. */}}
{{- define "trenza.pools.expectedModels" -}}
{{- $expected := list -}}
{{- range $pool := include "trenza.pools" . | fromYaml -}}
{{- if or (ne $pool.autoscaling.mode "none") (and (eq $.Values.scheduler.expectPools "all") (gt (int $pool.replicas) 0)) -}}
{{- range include "trenza.pools.models" $pool | fromYamlArray -}}
{{- $expected = append $expected (printf "%s/%s:%v" $pool.modality .name .slots) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $expected -}}
{{- end -}}

{{/* Whether any pool is scaled so: dict "root" $ "mode" hpa|keda. */}}
{{- define "trenza.pools.scaledBy" -}}
{{- $found := false -}}
{{- range include "trenza.pools" .root | fromYaml -}}
{{- if eq .autoscaling.mode $.mode }}{{ $found = true }}{{ end -}}
{{- end -}}
{{- $found -}}
{{- end -}}

{{/* Names of the models that have to be fetched: a list. */}}
{{- define "trenza.pools.fetched" -}}
{{- $names := list -}}
{{- range $name, $model := .models }}{{ if $model.source }}{{ $names = append $names $name }}{{ end }}{{ end -}}
{{- toYaml $names -}}
{{- end -}}

{{/* Mistakes that a schema cannot see, said in a sentence. */}}
{{- define "trenza.pools.check" -}}
{{- $scaled := dict -}}
{{- range $name, $pool := include "trenza.pools" . | fromYaml -}}
{{- $fetched := include "trenza.pools.fetched" $pool | fromYamlArray -}}
{{- $models := include "trenza.pools.models" $pool | fromYamlArray -}}
{{- $scaling := $pool.autoscaling -}}
{{- if and $fetched (has $pool.storage.type (list "builtin" "image")) -}}
{{- fail (printf "pools.%s: models with a source need storage.type pvc, emptyDir or hostPath; %s cannot be written to" $name $pool.storage.type) -}}
{{- end -}}
{{- if and (eq $pool.storage.type "image") (not $pool.storage.image.reference) -}}
{{- fail (printf "pools.%s: storage.type image needs storage.image.reference" $name) -}}
{{- end -}}
{{- if and (eq $pool.storage.type "emptyDir") (not $fetched) -}}
{{- fail (printf "pools.%s: storage.type emptyDir begins empty, and no model has a source" $name) -}}
{{- end -}}
{{- if ne $scaling.mode "none" -}}
{{- if not $models -}}
{{- fail (printf "pools.%s: autoscaling needs the names of its models in pools.%s.models" $name $name) -}}
{{- end -}}
{{- if lt (int $scaling.maxReplicas) (int $scaling.minReplicas) -}}
{{- fail (printf "pools.%s: autoscaling.maxReplicas is below minReplicas" $name) -}}
{{- end -}}
{{- range $model := $models -}}
{{- $key := printf "%s/%s" $pool.modality $model.name -}}
{{- with get $scaled $key -}}
{{- fail (printf "pools.%s and pools.%s both scale with the demand for %s, which would start replicas twice" . $name $key) -}}
{{- end -}}
{{- $_ := set $scaled $key $name -}}
{{- if and (eq $scaling.mode "hpa") (not (regexMatch "^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$" $model.name)) -}}
{{- fail (printf "pools.%s: an HPA cannot select the model name %q; use autoscaling.mode keda" $name $model.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq $scaling.mode "hpa") (lt (int $scaling.minReplicas) 1) -}}
{{- fail (printf "pools.%s: an HPA keeps at least one replica; scale to zero needs autoscaling.mode keda" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
