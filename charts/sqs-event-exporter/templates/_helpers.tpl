{{- define "exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "exporter.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "exporter.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "exporter.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "exporter.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "exporter.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- /* The queues as a list, however they were given. */}}
{{- define "exporter.queues" -}}
{{- $queues := list }}
{{- if kindIs "slice" .Values.queue }}{{ $queues = .Values.queue }}{{ else if .Values.queue }}{{ $queues = splitList "," .Values.queue }}{{ end }}
{{- $trimmed := list }}
{{- range $queues }}{{ $trimmed = append $trimmed (trim .) }}{{ end }}
{{- toJson $trimmed }}
{{- end }}

{{- /* 63 characters are the most that a ledger's name may have. */}}
{{- define "exporter.ledgerName" -}}
{{- $name := default (printf "%s-%s" .Release.Namespace .Release.Name) .Values.ledger.name }}
{{- if .Values.ledger.cluster }}{{ $name = printf "%s-%s" .Values.ledger.cluster $name }}{{ end }}
{{- if gt (len $name) 63 }}
{{- fail (printf "the ledger's name %q is longer than 63 characters: set ledger.name to a shorter one, such as shop-eu" $name) }}
{{- end }}
{{- $name }}
{{- end }}

{{- /* The settings file: the chart's own settings, and those of the user, which may replace them. */}}
{{- define "exporter.settings" -}}
{{- $ledger := dict "name" (include "exporter.ledgerName" .) }}
{{- if eq .Values.ledger.mode "sqlite" }}
{{- $_ := set $ledger "path" "/data/ledger.db" }}
{{- else if .Values.ledger.postgres.url }}
{{- $_ := set $ledger "url" .Values.ledger.postgres.url }}
{{- end }}
{{- $web := dict "listen-address" (printf ":%d" (int .Values.web.port)) }}
{{- if .Values.web.configSecret }}
{{- $_ := set $web "config" (dict "file" "/etc/sqs-event-exporter/web/web.yml") }}
{{- end }}
{{- $settings := dict "ledger" $ledger "web" $web "log" (dict "format" "json") }}
{{- $queues := include "exporter.queues" . | fromJsonArray }}
{{- if $queues }}{{ $_ := set $settings "queue" $queues }}{{ end }}
{{- toYaml (mergeOverwrite $settings (.Values.settings | default dict | deepCopy)) }}
{{- end }}

{{- /* The region that an AWS URL of a queue names, as the program reads it; "" for any other URL. */}}
{{- define "exporter.regionOf" -}}
{{- $host := regexReplaceAll "^https?://([^/:]+).*$" . "${1}" }}
{{- $aws := "(?:amazonaws\\.com(?:\\.cn)?|api\\.aws|api\\.amazonwebservices\\.com\\.cn)$" }}
{{- if eq $host "queue.amazonaws.com" }}us-east-1
{{- else if regexMatch (printf "^(?:vpce-[a-z0-9-]+\\.)?sqs(?:-fips)?\\.[a-z0-9-]+\\.(?:vpce\\.)?%s" $aws) $host }}
{{- regexReplaceAll "^.*?sqs(?:-fips)?\\.([a-z0-9-]+)\\..*$" $host "${1}" }}
{{- else if regexMatch (printf "^[a-z0-9-]+\\.queue\\.%s" $aws) $host }}
{{- regexReplaceAll "\\..*$" $host "" }}
{{- end }}
{{- end }}

{{- /* The ports of the database's hosts, as a list; a URL in a Secret can't be read here. */}}
{{- define "exporter.postgresPorts" -}}
{{- $ports := list }}
{{- range splitList "," (regexReplaceAll "^[a-z]+://([^/?@]*@)?([^/?]*).*$" .Values.ledger.postgres.url "${2}") }}
{{- $ports = append $ports (regexFind ":[0-9]+$" . | trimPrefix ":" | default "5432" | int) }}
{{- end }}
{{- toJson (uniq $ports) }}
{{- end }}

{{- define "exporter.probe" -}}
httpGet:
  path: {{ .path }}
  port: web
  scheme: {{ .values.web.scheme }}
  {{- with .values.web.probeHeaders }}
  httpHeaders: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "exporter.pod" -}}
metadata:
  annotations:
    checksum/settings: {{ include "exporter.settings" . | sha256sum }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
  labels:
    {{- include "exporter.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "exporter.serviceAccountName" . }}
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  securityContext: {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
    - name: exporter
      image: {{ include "exporter.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: {{- concat (list "run") (.Values.extraArgs | default list) | toYaml | nindent 8 }}
      env:
        - {name: EXPORTER_CONFIG__FILE, value: /etc/sqs-event-exporter/settings.yml}
        # The image sets these two, and a variable goes before the file: empty, they leave it to the file.
        - {name: EXPORTER_WEB__LISTEN_ADDRESS, value: ""}
        - {name: EXPORTER_LOG__FORMAT, value: ""}
        {{- with .Values.aws.region }}
        - {name: AWS_REGION, value: {{ . | quote }}}
        {{- end }}
        {{- with .Values.aws.endpointUrl }}
        - {name: AWS_ENDPOINT_URL_SQS, value: {{ . | quote }}}
        {{- end }}
        {{- if eq .Values.ledger.mode "postgres" }}
        {{- with .Values.ledger.postgres.urlSecret }}
        {{- if .name }}
        - name: EXPORTER_LEDGER__URL
          valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}}
        {{- end }}
        {{- end }}
        {{- with .Values.ledger.postgres.passwordSecret }}
        {{- if .name }}
        - name: PGPASSWORD
          valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}}
        {{- end }}
        {{- end }}
        {{- end }}
        {{- with .Values.extraEnv }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- if or .Values.aws.credentialsSecret .Values.extraEnvFrom }}
      envFrom:
        {{- with .Values.aws.credentialsSecret }}
        - secretRef: {name: {{ . | quote }}}
        {{- end }}
        {{- with .Values.extraEnvFrom }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- end }}
      ports:
        - {name: web, containerPort: {{ .Values.web.port }}}
      # A start that reads millions of remembered ids back takes some seconds before it listens.
      startupProbe:
        {{- include "exporter.probe" (dict "path" "/-/healthy" "values" .Values) | nindent 8 }}
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        {{- include "exporter.probe" (dict "path" "/-/healthy" "values" .Values) | nindent 8 }}
        periodSeconds: 10
        timeoutSeconds: 5
      readinessProbe:
        {{- include "exporter.probe" (dict "path" "/-/ready" "values" .Values) | nindent 8 }}
        periodSeconds: 10
        timeoutSeconds: 5
      resources: {{- toYaml .Values.resources | nindent 8 }}
      securityContext: {{- toYaml .Values.securityContext | nindent 8 }}
      volumeMounts:
        - {name: settings, mountPath: /etc/sqs-event-exporter/settings.yml, subPath: settings.yml, readOnly: true}
        {{- if .Values.web.configSecret }}
        - {name: web, mountPath: /etc/sqs-event-exporter/web, readOnly: true}
        {{- end }}
        - {name: data, mountPath: /data}
        - {name: tmp, mountPath: /tmp}
        {{- with .Values.extraVolumeMounts }}{{ toYaml . | nindent 8 }}{{ end }}
  volumes:
    - name: settings
      configMap: {name: {{ include "exporter.fullname" . }}}
    {{- with .Values.web.configSecret }}
    - name: web
      secret: {secretName: {{ . | quote }}}
    {{- end }}
    {{- if eq .Values.ledger.mode "postgres" }}
    - name: data
      emptyDir: {}
    {{- end }}
    - name: tmp
      emptyDir: {}
    {{- with .Values.extraVolumes }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- if eq .Values.ledger.mode "postgres" }}
  topologySpreadConstraints:
    {{- if .Values.topologySpreadConstraints }}{{ toYaml .Values.topologySpreadConstraints | nindent 4 }}{{ else }}
    - maxSkew: 1
      topologyKey: topology.kubernetes.io/zone
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "exporter.selectorLabels" . | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
