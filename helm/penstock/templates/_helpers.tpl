{{- define "penstock.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 30 | trimSuffix "-" -}}
{{- end }}

{{/* Labels by which Services, budgets and policies select. KubeRay leaves them as they are. */}}
{{- define "penstock.selectorLabels" -}}
app.kubernetes.io/name: penstock
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "penstock.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{ include "penstock.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of a pod: (list $ component plane). */}}
{{- define "penstock.podLabels" -}}
{{- $root := index . 0 -}}
{{ include "penstock.selectorLabels" $root }}
app.kubernetes.io/component: {{ index . 1 }}
penstock/plane: {{ index . 2 }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The image: (list $ hasCuda). */}}
{{- define "penstock.image" -}}
{{- $root := index . 0 -}}
{{- $image := $root.Values.image -}}
{{- $cuda := index . 1 -}}
{{- $digest := ternary $image.gpuDigest $image.digest $cuda -}}
{{- $tag := ternary (default (printf "%s-gpu" $root.Chart.AppVersion) $image.gpuTag) (default (printf "%s-cpu" $root.Chart.AppVersion) $image.tag) $cuda -}}
{{- if $digest }}{{ $image.repository }}@{{ $digest }}{{ else }}{{ $image.repository }}:{{ $tag }}{{ end -}}
{{- end }}

{{/* The settings as they are in the file: those of the values, with what follows from the rest of the chart. */}}
{{- define "penstock.settings" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- $computed := dict "data_dir" "/data" -}}
{{- if .Values.secrets.kafkaCa.name -}}
{{- $computed = mustMerge (dict "kafka" (dict "ssl_cafile" "/etc/penstock/kafka-ca/ca.crt")) $computed -}}
{{- end -}}
{{- if .Values.secrets.kafkaPassword.name -}}
{{- $computed = mustMerge (dict "kafka" (dict "sasl_password_file" "/etc/penstock/secrets/kafka.sasl_password")) $computed -}}
{{- end -}}
{{- if .Values.secrets.storeToken.name -}}
{{- $computed = mustMerge (dict "store" (dict "token_file" "/etc/penstock/secrets/store.token")) $computed -}}
{{- end -}}
{{- if .Values.secrets.tracingHeaders.name -}}
{{- $computed = mustMerge (dict "tracing" (dict "headers_file" "/etc/penstock/secrets/tracing.headers")) $computed -}}
{{- end -}}
{{- range $setting, $from := .Values.secrets.files -}}
{{- $names := splitList "." $setting -}}
{{- $last := last $names -}}
{{- $file := dict (ternary $last (printf "%s_file" $last) (hasSuffix "file" $last)) (printf "/etc/penstock/secrets/%s" $setting) -}}
{{- range $section := reverse (initial $names) -}}
{{- $file = dict $section $file -}}
{{- end -}}
{{- $computed = mustMerge $file $computed -}}
{{- end -}}
{{- if and .Values.query.enabled .Values.ingest.enabled -}}
{{- $computed = mustMerge (dict "canary" (dict "query_url" (include "penstock.queryUrl" .))) $computed -}}
{{- end -}}
{{- if .Values.ingest.enabled -}}
{{- $computed = mustMerge (dict "metrics" (dict "urls" (list (include "penstock.driverUrl" .)))) $computed -}}
{{- end -}}
{{- if .Values.query.enabled -}}
{{- $computed = mustMerge (dict "query" (dict "url" (include "penstock.queryUrl" .))) $computed -}}
{{- end -}}
{{- mustMerge $settings $computed | toJson -}}
{{- end }}

{{/* TOML of a JSON object. JSON strings, numbers and lists of them are TOML as well; toToml would write 4 as 4.0. */}}
{{- define "penstock.toml" -}}
{{- range $name, $value := . -}}
{{- if not (or (kindIs "map" $value) (has $value (list nil ""))) }}
{{ $name }} = {{ $value | mustToRawJson }}
{{- end -}}
{{- end }}
{{- range $section, $values := . -}}
{{- if kindIs "map" $values }}

[{{ $section }}]
{{- range $name, $value := $values -}}
{{- if kindIs "map" $value }}
{{ $name }} = {{ include "penstock.inlineTable" $value }}
{{- else if not (has $value (list nil "")) }}
{{ $name }} = {{ include "penstock.inlineValue" (dict "value" $value) }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* JSON, but for lists of objects, such as rules, whose members are inline tables. */}}
{{- define "penstock.inlineValue" -}}
{{- $tables := list -}}
{{- if kindIs "slice" .value -}}
{{- range .value -}}
{{- if kindIs "map" . -}}
{{- $tables = append $tables (include "penstock.inlineTable" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $tables -}}
[{{ $tables | join ", " }}]
{{- else -}}
{{ .value | mustToRawJson }}
{{- end -}}
{{- end }}

{{- define "penstock.inlineTable" -}}
{{- $pairs := list -}}
{{- range $name, $value := . -}}
{{- if kindIs "map" $value -}}
{{- $pairs = append $pairs (printf "%s = %s" ($name | quote) (include "penstock.inlineTable" $value)) -}}
{{- else -}}
{{- $pairs = append $pairs (printf "%s = %s" ($name | quote) ($value | mustToRawJson)) -}}
{{- end -}}
{{- end -}}
{ {{- $pairs | join ", " -}} }
{{- end }}

{{- define "penstock.settingsToml" -}}
{{- include "penstock.toml" (include "penstock.settings" . | mustFromJson) | trim -}}
{{- end }}

{{- define "penstock.queryName" -}}{{ include "penstock.fullname" . }}-query{{- end }}
{{- define "penstock.ingestName" -}}{{ include "penstock.fullname" . }}-ingest{{- end }}
{{- define "penstock.driverName" -}}{{ include "penstock.fullname" . }}-driver{{- end }}
{{- define "penstock.driverUrl" -}}http://{{ include "penstock.driverName" . }}.{{ .Release.Namespace }}:{{ include "penstock.metricsPort" . }}{{- end }}
{{- define "penstock.queryUrl" -}}http://{{ include "penstock.queryName" . }}-serve-svc.{{ .Release.Namespace }}:{{ .Values.query.port }}{{- end }}

{{/* What a pod has to restart for: its settings, and which secrets it reads. */}}
{{- define "penstock.checksums" -}}
penstock/settings: {{ include "penstock.settingsToml" . | sha256sum }}
penstock/secrets: {{ .Values.secrets | toJson | sha256sum }}
{{- end }}

{{- define "penstock.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "penstock.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The device of a plane's encoders, as a variable: (list $ plane). A plane without GPUs ignores those of the other. */}}
{{- define "penstock.deviceEnv" -}}
{{- $root := index . 0 -}}
{{- $device := "" -}}
{{- if eq (index . 1) "query" -}}
{{- $device = ternary "cuda" "cpu" (gt (int $root.Values.query.workers.gpu.count) 0) -}}
{{- else -}}
{{- range $root.Values.ingest.groups }}{{ if and . (eq .role "gpu") }}{{ $device = "cuda" }}{{ end }}{{ end -}}
{{- end -}}
{{- if $device }}
- {name: PENSTOCK_DEVICE, value: {{ $device }}}
{{- end }}
{{- end }}

{{/* Variables of a container that runs Penstock. Those of the asset store are the only secrets among them. */}}
{{- define "penstock.env" -}}
- {name: HOME, value: /tmp}
- {name: PENSTOCK_CONFIG, value: /etc/penstock/penstock.toml}
{{- if ne .Values.models.source "image" }}
- {name: HF_HOME, value: /models}
{{- end }}
{{- if ne .Values.models.source "fetch" }}
- {name: HF_HUB_OFFLINE, value: "1"}
{{- end }}
{{- with .Values.assets.endpoint }}
- {name: AWS_ENDPOINT_URL_S3, value: {{ . | quote }}}
{{- end }}
{{- with .Values.assets.region }}
- {name: AWS_DEFAULT_REGION, value: {{ . | quote }}}
{{- end }}
{{- with .Values.secrets.assets }}{{ if .name }}
- {name: AWS_ACCESS_KEY_ID, valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .accessKeyIdKey }}}}}
- {name: AWS_SECRET_ACCESS_KEY, valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .secretAccessKeyKey }}}}}
{{- end }}{{ end }}
{{- end }}

{{/* Variables of a Ray node: (list $ cpuCount drainSeconds). */}}
{{- define "penstock.rayEnv" -}}
{{- $root := index . 0 -}}
- {name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, value: {{ index . 1 | quote }}}
{{- /* Ray leaves the output of actors alone, so that it is the pod's; its own programs in C++ log JSON as well. */}}
- {name: RAY_LOG_TO_STDERR, value: "1"}
{{- if eq (dig "log" "format" "text" $root.Values.settings) "json" }}
- {name: RAY_BACKEND_LOG_JSON, value: "1"}
{{- end }}
{{- /* Bounds of what clients send to Serve's proxy, which reads this variable when it starts. */}}
- {name: RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH, value: penstock.serve.proxy.middlewares}
{{- /* A node whose machine or network is gone refuses nothing. Ray asks every 3 s: this gives it up after 32 s, Ray's own 10 s and 5 after 65. */}}
- {name: RAY_health_check_timeout_ms, value: "5000"}
- {name: RAY_health_check_failure_threshold, value: "4"}
{{- if $root.Values.ray.redis.address }}
- {name: RAY_gcs_rpc_server_reconnect_timeout_s, value: "600"}
{{- end }}
{{- end }}

{{- define "penstock.mounts" -}}
- {name: settings, mountPath: /etc/penstock, readOnly: true}
- {name: data, mountPath: /data}
- {name: tmp, mountPath: /tmp}
- {name: shm, mountPath: /dev/shm}
{{- if ne .Values.models.source "image" }}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- end }}

{{/* Volumes of a pod: (list $ sharedMemory). */}}
{{- define "penstock.volumes" -}}
{{- $root := index . 0 -}}
- name: settings
  projected:
    defaultMode: 0440
    sources:
      - configMap: {name: {{ include "penstock.fullname" $root }}-settings}
      {{- /* In the same volume: a read-only one has no room for a mount below it. */}}
      {{- with $root.Values.secrets.kafkaCa }}{{ if .name }}
      - secret: {name: {{ .name }}, items: [{key: {{ .key }}, path: kafka-ca/ca.crt}]}
      {{- end }}{{ end }}
      {{- /* Files, which Kubernetes replaces when a Secret changes: Penstock reads them again. */}}
      {{- with $root.Values.secrets.kafkaPassword }}{{ if .name }}
      - secret: {name: {{ .name }}, items: [{key: {{ .key }}, path: secrets/kafka.sasl_password}]}
      {{- end }}{{ end }}
      {{- with $root.Values.secrets.storeToken }}{{ if .name }}
      - secret: {name: {{ .name }}, items: [{key: {{ .key }}, path: secrets/store.token}]}
      {{- end }}{{ end }}
      {{- with $root.Values.secrets.tracingHeaders }}{{ if .name }}
      - secret: {name: {{ .name }}, items: [{key: {{ .key }}, path: secrets/tracing.headers}]}
      {{- end }}{{ end }}
      {{- range $setting, $from := $root.Values.secrets.files }}
      - secret: {name: {{ $from.name }}, items: [{key: {{ $from.key }}, path: secrets/{{ $setting }}}]}
      {{- end }}
- name: data
  emptyDir: {sizeLimit: {{ $root.Values.volumes.data }}}
- name: tmp
  emptyDir: {sizeLimit: {{ $root.Values.volumes.temporary }}}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ index . 1 }}}
{{- if eq $root.Values.models.source "claim" }}
- name: models
  persistentVolumeClaim: {claimName: {{ required "models.claim is needed for models.source claim" $root.Values.models.claim }}, readOnly: true}
{{- else if eq $root.Values.models.source "fetch" }}
- name: models
  emptyDir: {sizeLimit: {{ $root.Values.models.sizeLimit }}}
{{- end }}
{{- end }}

{{/* The init container that fetches weights: (list $ hasCuda). */}}
{{- define "penstock.fetchModels" -}}
{{- $root := index . 0 -}}
{{- if eq $root.Values.models.source "fetch" }}
- name: models
  image: {{ include "penstock.image" . }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  command: [penstock, models, fetch]
  env: {{- include "penstock.env" $root | nindent 4 }}
  resources: {requests: {cpu: 200m, memory: 512Mi}, limits: {memory: 2Gi}}
  securityContext: {{- include "penstock.containerSecurity" $root | nindent 4 }}
  volumeMounts:
    - {name: settings, mountPath: /etc/penstock, readOnly: true}
    - {name: data, mountPath: /data}
    - {name: tmp, mountPath: /tmp}
    - {name: models, mountPath: /models}
{{- end }}
{{- end }}

{{/* Where a pod may run: nodeSelector, tolerations and priority of a part of the values. */}}
{{- define "penstock.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* What all pods have in common: (list $ sharedMemory). */}}
{{- define "penstock.podSpec" -}}
{{- $root := index . 0 -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
securityContext: {{- include "penstock.podSecurity" $root | nindent 2 }}
volumes: {{- include "penstock.volumes" . | nindent 2 }}
{{- end }}

{{/* Resources with GPUs added: (list resources gpu). */}}
{{- define "penstock.resources" -}}
{{- $resources := deepCopy (index . 0) -}}
{{- $gpu := index . 1 -}}
{{- if and $gpu $gpu.count -}}
{{- $_ := set $resources "limits" (mustMerge (dict (default "nvidia.com/gpu" $gpu.resource) (int $gpu.count)) (default dict $resources.limits)) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end }}

{{- define "penstock.drainSeconds" -}}
{{- $ingest := default dict .Values.settings.ingest -}}
{{- ceil (default 20 $ingest.drain_timeout_s) | int -}}
{{- end }}

{{- define "penstock.metricsPort" -}}
{{- $metrics := default dict .Values.settings.metrics -}}
{{- if or (eq (toString $metrics.enabled) "false") (eq (toString $metrics.port) "0") -}}
{{- fail "settings.metrics: enabled has to be true and port a fixed one, since the probes ask there" -}}
{{- end -}}
{{- default 8601 $metrics.port | int -}}
{{- end }}

{{/* Options of a Ray cluster that both planes share. */}}
{{- define "penstock.rayCluster" -}}
rayVersion: {{ .Values.ray.version | quote }}
authOptions:
  mode: token
  {{- with .Values.secrets.rayToken }}
  secretName: {{ . }}
  {{- end }}
{{- with .Values.ray.redis }}{{ if .address }}
gcsFaultToleranceOptions:
  redisAddress: {{ .address | quote }}
  {{- if .passwordSecret }}
  redisPassword: {valueFrom: {secretKeyRef: {name: {{ .passwordSecret }}, key: {{ .passwordKey }}}}}
  {{- end }}
{{- end }}{{ end }}
{{- end }}

{{/* Options of Ray's autoscaler: (list $ resources idleTimeoutSeconds upscalingMode). It alone has a token of the API. */}}
{{- define "penstock.autoscaler" -}}
{{- $root := index . 0 -}}
enableInTreeAutoscaling: true
autoscalerOptions:
  version: v2
  idleTimeoutSeconds: {{ index . 2 }}
  upscalingMode: {{ index . 3 }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  resources: {{- toYaml (index . 1) | nindent 4 }}
  securityContext: {{- include "penstock.containerSecurity" $root | nindent 4 }}
  env:
    - {name: HOME, value: /tmp}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: api-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end }}

{{- define "penstock.apiTokenVolume" -}}
- name: api-token
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}]}
{{- end }}

{{/* The pod template of a Ray head: (dict root component plane values autoscaled port). */}}
{{- define "penstock.headTemplate" -}}
{{- $root := .root -}}
metadata:
  labels: {{- include "penstock.podLabels" (list $root .component .plane) | nindent 4 }}
  annotations: {{- include "penstock.checksums" $root | nindent 4 }}
spec:
  {{- include "penstock.podSpec" (list $root $root.Values.volumes.sharedMemory) | nindent 2 }}
  {{- if .autoscaled }}
    {{- include "penstock.apiTokenVolume" $root | nindent 4 }}
  {{- else }}
  serviceAccountName: {{ include "penstock.fullname" $root }}
  {{- end }}
  {{- include "penstock.placement" .values | nindent 2 }}
  terminationGracePeriodSeconds: 60
  containers:
    - name: ray-head
      image: {{ include "penstock.image" (list $root false) }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      ports:
        - {name: gcs-server, containerPort: 6379}
        - {name: dashboard, containerPort: 8265}
        - {name: client, containerPort: 10001}
        - {name: metrics, containerPort: 8080}
        - {name: as-metrics, containerPort: 44217}
        - {name: dash-metrics, containerPort: 44227}
        - {name: penstock, containerPort: {{ include "penstock.metricsPort" $root }}}
        {{- /* KubeRay makes the Service of Serve from the head's port, also where the head is excluded from it. */}}
        {{- if .port }}
        - {name: serve, containerPort: {{ .port }}}
        {{- end }}
      env:
        {{- include "penstock.env" $root | nindent 8 }}
        {{- include "penstock.deviceEnv" (list $root .plane) | nindent 8 }}
        {{- include "penstock.rayEnv" (list $root 30) | nindent 8 }}
      resources: {{- toYaml .values.resources | nindent 8 }}
      securityContext: {{- include "penstock.containerSecurity" $root | nindent 8 }}
      volumeMounts: {{- include "penstock.mounts" $root | nindent 8 }}
{{- end }}

{{/* The pod template of Ray workers: (dict root component plane values cuda drain sharedMemory port). */}}
{{- define "penstock.workerTemplate" -}}
{{- $root := .root -}}
metadata:
  labels: {{- include "penstock.podLabels" (list $root .component .plane) | nindent 4 }}
  annotations: {{- include "penstock.checksums" $root | nindent 4 }}
spec:
  {{- include "penstock.podSpec" (list $root .sharedMemory) | nindent 2 }}
  serviceAccountName: {{ include "penstock.fullname" $root }}
  {{- include "penstock.placement" .values | nindent 2 }}
  terminationGracePeriodSeconds: {{ add .drain 20 }}
  {{- if .spread }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: {{ .spread }}
      labelSelector:
        matchLabels: {{- include "penstock.selectorLabels" $root | nindent 10 }}
          app.kubernetes.io/component: {{ .component }}
      matchLabelKeys: [ray.io/cluster]
  {{- end }}
  {{- with include "penstock.fetchModels" (list $root .cuda) }}
  initContainers: {{- . | nindent 4 }}
  {{- end }}
  containers:
    - name: ray-worker
      image: {{ include "penstock.image" (list $root .cuda) }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      ports:
        - {name: metrics, containerPort: 8080}
        - {name: penstock, containerPort: {{ include "penstock.metricsPort" $root }}}
        {{- if .port }}
        - {name: serve, containerPort: {{ .port }}}
        {{- end }}
      env:
        {{- include "penstock.env" $root | nindent 8 }}
        {{- include "penstock.deviceEnv" (list $root .plane) | nindent 8 }}
        {{- include "penstock.rayEnv" (list $root .drain) | nindent 8 }}
      resources: {{- include "penstock.resources" (list .values.resources .values.gpu) | nindent 8 }}
      securityContext: {{- include "penstock.containerSecurity" $root | nindent 8 }}
      volumeMounts: {{- include "penstock.mounts" $root | nindent 8 }}
{{- end }}
