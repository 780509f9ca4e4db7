{{- define "siglip.fullname" -}}
{{- $name := .Release.Name -}}
{{- if not (contains "siglip" $name) }}{{ $name = printf "%s-siglip" $name }}{{ end -}}
{{- $name | trunc 30 | trimSuffix "-" -}}
{{- end }}

{{- define "siglip.selector" -}}
app.kubernetes.io/name: siglip
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "siglip.labels" -}}
{{ include "siglip.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* Of a gateway or worker: dict "root" "model" "component" */ -}}
{{- define "siglip.partSelector" -}}
{{ include "siglip.selector" .root }}
app.kubernetes.io/component: {{ .component }}
siglip-model: {{ .model.name }}
{{- end }}

{{- define "siglip.partName" -}}
{{ include "siglip.fullname" .root }}-{{ .model.name }}-{{ .component }}
{{- end }}

{{- /* A tower's own values over those of all workers: dict "root" "tower" */ -}}
{{- define "siglip.tower" -}}
{{ toYaml (mergeOverwrite (deepCopy .root.Values.worker) (deepCopy (default dict .tower))) }}
{{- end }}

{{- define "siglip.gatewayImage" -}}
{{- with .Values.image.gateway -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{- /* dict "root" "variant" */ -}}
{{- define "siglip.workerImage" -}}
{{- $image := .root.Values.image.worker -}}
{{- $digest := get $image.digests .variant -}}
{{ $image.repository }}{{ if $digest }}@{{ $digest }}{{ else }}:{{ default .root.Chart.AppVersion $image.tag }}-{{ .variant }}{{ end }}
{{- end }}

{{- /* Numbers come from YAML as floats, which would be printed as 3.3554432e+07. */ -}}
{{- define "siglip.number" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end }}

{{- define "siglip.settingsEnv" -}}
{{- range $name, $value := . }}
- name: SIGLIP_{{ upper $name }}
  value: {{ include "siglip.number" $value | quote }}
{{- end }}
{{- end }}

{{- /* What gateways and workers have alike: dict "root" "model" "urlKey" "drain" */ -}}
{{- define "siglip.commonEnv" -}}
- name: SIGLIP_MODEL
  value: {{ .model.source | quote }}
- name: SIGLIP_MODEL_NAME
  value: {{ default .model.name .model.servedName | quote }}
{{- with .model.revision }}
- name: SIGLIP_REVISION
  value: {{ . | quote }}
{{- end }}
{{- $secret := required "redis.secretName: the Secret with the URL or the password of the queue" .root.Values.redis.secretName }}
{{- if .root.Values.queue.enabled }}
- name: SIGLIP_REDIS_URL
  value: redis://{{ include "siglip.fullname" .root }}-queue:6379
- name: SIGLIP_REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ .root.Values.queue.passwordKey }}}}
{{- else }}
- name: SIGLIP_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ .urlKey }}}}
{{- end }}
{{- with .root.Values.redis }}
{{- if eq .mode "cluster" }}
- name: SIGLIP_REDIS_CLUSTER
  value: "on"
{{- end }}
{{- if eq .mode "sentinel" }}
- name: SIGLIP_REDIS_SENTINEL_NAME
  value: {{ required "redis.sentinelName: the name of the primary" .sentinelName | quote }}
{{- end }}
- name: SIGLIP_REDIS_SHARDS
  value: {{ include "siglip.number" .shards | quote }}
{{- if .caSecretName }}
- name: SIGLIP_REDIS_CA_FILE
  value: /run/redis-ca/ca.crt
{{- end }}
{{- end }}
- name: SIGLIP_METRICS_LISTEN
  value: 0.0.0.0:9464
- name: SIGLIP_LOG_FORMAT
  value: json
- name: SIGLIP_DRAIN_TIMEOUT_S
  value: {{ include "siglip.number" .drain | quote }}
{{- end }}

{{- define "siglip.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "siglip.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* dict "root" "model" */ -}}
{{- define "siglip.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: cache, mountPath: /cache}
{{- if .model.volume }}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- if .root.Values.redis.caSecretName }}
- {name: redis-ca, mountPath: /run/redis-ca, readOnly: true}
{{- end }}
{{- end }}

{{- define "siglip.volumes" -}}
- name: tmp
  emptyDir: {}
- name: cache
{{- toYaml .root.Values.cache.volume | nindent 2 }}
{{- with .model.volume }}
- name: models
{{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.redis.caSecretName }}
- name: redis-ca
  secret: {secretName: {{ . }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- end }}

{{- /* Zones first, then nodes; never at the price of not running. */ -}}
{{- define "siglip.spread" -}}
{{- $selector := include "siglip.partSelector" . -}}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
{{- $selector | nindent 6 }}
{{- end }}
{{- end }}

{{- /* "true" where a tower of the model may have no worker: dict "root" "model" */ -}}
{{- define "siglip.scalesToZero" -}}
{{- range $name, $own := .model.towers }}
{{- $tower := include "siglip.tower" (dict "root" $.root "tower" $own) | fromYaml }}
{{- if and $tower.autoscaling.enabled (eq (int $tower.autoscaling.minReplicas) 0) }}true{{ end }}
{{- end }}
{{- end }}

{{- /* The name of a model's keys in Redis, as broker/keys.py makes it: dict "model" */ -}}
{{- define "siglip.tag" -}}
{{- $fingerprint := required (printf "models: %s: fingerprint, for autoscaling by Redis" .model.name) .model.fingerprint -}}
{{- printf "%s\x00%s" (default .model.name .model.servedName) $fingerprint | sha256sum | trunc 16 -}}
{{- end }}
