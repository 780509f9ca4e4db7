{{- /*
By the length of the streams. A worker deletes what it has answered, so the length is what waits or is in work,
and 0 when there is nothing to do. Not with a consumer group: pending entries are bounded by what workers take,
and the lag is unknown for a while after an entry has been withdrawn.
dict "root" "model" "tower" "name" "scaling"
*/ -}}
{{- define "siglip.scaledObject" -}}
{{- $values := .root.Values -}}
{{- $types := dict "single" "redis-streams" "sentinel" "redis-sentinel-streams" "cluster" "redis-cluster-streams" -}}
{{- $tag := include "siglip.tag" . -}}
{{- $address := required "autoscaling.redisAddress: host:port of the queue, for KEDA" $values.autoscaling.redisAddress -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ .name }}
  labels: {{- include "siglip.labels" .root | nindent 4 }}
spec:
  scaleTargetRef: {name: {{ .name }}}
  minReplicaCount: {{ .scaling.minReplicas }}
  maxReplicaCount: {{ .scaling.maxReplicas }}
  pollingInterval: {{ .scaling.pollingSeconds }}
  cooldownPeriod: {{ .scaling.cooldownSeconds }}
  {{- if not $values.autoscaling.prometheusAddress }}
  # While the queue cannot be asked.
  fallback: {failureThreshold: 3, replicas: {{ max 1 (int .scaling.minReplicas) }}}
  {{- end }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleDown:
          stabilizationWindowSeconds: {{ .scaling.cooldownSeconds }}
          policies: [{type: Percent, value: 50, periodSeconds: 60}]
  triggers:
    {{- range $shard := until (int $values.redis.shards) }}
    {{- range $class := list "interactive" "batch" }}
    - type: {{ get $types $values.redis.mode }}
      metadata:
        {{ ternary "address" "addresses" (eq $values.redis.mode "single") }}: {{ $address | quote }}
        {{- if eq $values.redis.mode "sentinel" }}
        sentinelMaster: {{ $values.redis.sentinelName | quote }}
        {{- end }}
        stream: {{ printf "{siglip:%s:%d}:requests:%s:%s" $tag $shard $.tower $class | quote }}
        streamLength: {{ include "siglip.number" $.scaling.entriesPerReplica | quote }}
        enableTLS: {{ $values.autoscaling.tls | quote }}
      {{- if $values.autoscaling.passwordKey }}
      authenticationRef: {name: {{ include "siglip.fullname" $.root }}-scaler}
      {{- end }}
    {{- end }}
    {{- end }}
    {{- with $values.autoscaling.prometheusAddress }}
    - type: prometheus
      metricType: Value
      metadata:
        serverAddress: {{ . | quote }}
        query: {{ printf "max(siglip_queue_oldest_seconds{namespace=%q,siglip_model=%q,tower=%q,class=\"interactive\"}) or vector(0)" $.root.Release.Namespace $.model.name $.tower | quote }}
        threshold: {{ include "siglip.number" $values.autoscaling.oldestSeconds | quote }}
    {{- end }}
{{- end }}
