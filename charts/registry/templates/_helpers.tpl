{{- define "registry.fullname" -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{- define "registry.service" -}}
{{ .Values.service.name | default (include "registry.fullname" .) }}
{{- end -}}

{{- define "registry.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Where the certificate comes from: off, inline, secret, cert-manager, acme or own-ca. */}}
{{- define "registry.tls" -}}
{{- if or .Values.httpEnabled .Values.ingress.enabled -}}off
{{- else if .Values.tls.secret -}}secret
{{- else if .Values.tls.crt -}}inline
{{- else if index .Values "cert-manager" "enabled" -}}cert-manager
{{- else if .Values.acme.enabled -}}acme
{{- else -}}own-ca
{{- end -}}
{{- end -}}

{{/* "true" if no pod has a volume: content and state are in the database and the object store. */}}
{{- define "registry.stateless" -}}
{{- and .Values.databaseSecret.name .Values.blobs.location .Values.clusterSecret.name | empty | ternary "" "true" -}}
{{- end -}}

{{- define "registry.scheme" -}}
{{- eq (include "registry.tls" .) "off" | ternary "http" "https" -}}
{{- end -}}

{{- define "registry.port" -}}
{{ .Values.service.port | default (eq (include "registry.tls" .) "off" | ternary 80 443) | int }}
{{- end -}}

{{- define "registry.tlsSecret" -}}
{{ .Values.tls.secret | default (printf "%s-tls" (include "registry.fullname" .)) }}
{{- end -}}

{{- define "registry.externalURL" -}}
{{- if .Values.externalURL -}}
{{ .Values.externalURL }}
{{- else if .Values.ingress.enabled -}}
{{ empty .Values.ingress.tlsSecret | ternary "http" "https" }}://{{ .Values.ingress.host }}
{{- end -}}
{{- end -}}

{{/* The names for the certificate, as a list in JSON. */}}
{{- define "registry.names" -}}
{{- $service := include "registry.service" . -}}
{{- $names := list
  $service
  (printf "%s.%s" $service .Release.Namespace)
  (printf "%s.%s.svc" $service .Release.Namespace)
  (printf "%s.%s.svc.%s" $service .Release.Namespace .Values.clusterDomain) -}}
{{- with .Values.service.clusterIP }}{{ $names = append $names . }}{{ end -}}
{{- with .Values.externalURL }}{{ $names = append $names (urlParse .).hostname }}{{ end -}}
{{- $names | uniq | toJson -}}
{{- end -}}

{{- define "registry.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: ferry
{{ include "registry.selector" . }}
{{- end -}}

{{- define "registry.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* What a probe asks: list of the root context and the path. Before the first certificate of ACME, no
handshake succeeds, and the authority reaches only a pod that is ready. */}}
{{- define "registry.probe" -}}
{{- $root := index . 0 -}}
{{- if eq (include "registry.tls" $root) "acme" -}}
tcpSocket: {port: registry}
{{- else -}}
httpGet: {path: {{ index . 1 }}, port: registry, scheme: {{ include "registry.scheme" $root | upper }}}
{{- end -}}
{{- end -}}

{{/* Fails with one clear message unless the values make sense together. */}}
{{- define "registry.check" -}}
{{- $v := .Values -}}
{{- $cm := index $v "cert-manager" -}}
{{- $wrong := list -}}
{{- if not $v.image.repository -}}
{{- $wrong = append $wrong "image.repository is required: a repository with the image of Ferry. make image builds it, and ferry push-layout bin/image REGISTRY/REPOSITORY:TAG pushes it to any registry that the nodes can pull from." -}}
{{- end -}}
{{- $sources := list -}}
{{- if $v.httpEnabled }}{{ $sources = append $sources "httpEnabled" }}{{ end -}}
{{- if $v.ingress.enabled }}{{ $sources = append $sources "ingress.enabled" }}{{ end -}}
{{- if or $v.tls.crt $v.tls.key $v.tls.cacrt }}{{ $sources = append $sources "tls.crt" }}{{ end -}}
{{- if $v.tls.secret }}{{ $sources = append $sources "tls.secret" }}{{ end -}}
{{- if $cm.enabled }}{{ $sources = append $sources "cert-manager.enabled" }}{{ end -}}
{{- if $v.acme.enabled }}{{ $sources = append $sources "acme.enabled" }}{{ end -}}
{{- if and (gt (len $sources) 1) (ne (join " " $sources) "httpEnabled ingress.enabled") -}}
{{- $wrong = append $wrong (printf "%s exclude each other: choose how TLS is served." (join " and " $sources)) -}}
{{- end -}}
{{- if ne (empty $v.tls.crt) (empty $v.tls.key) -}}
{{- $wrong = append $wrong "tls.crt and tls.key belong together." -}}
{{- end -}}
{{- if and $cm.enabled (not $cm.issuerRef.name) -}}
{{- $wrong = append $wrong "cert-manager.enabled needs cert-manager.issuerRef.name: the issuer." -}}
{{- end -}}
{{- if and $v.acme.enabled (not $v.acme.names) -}}
{{- $wrong = append $wrong "acme.enabled needs acme.names: the names for the certificate." -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.host) -}}
{{- $wrong = append $wrong "ingress.enabled needs ingress.host." -}}
{{- end -}}
{{- $tls := include "registry.tls" . -}}
{{- if and (include "registry.stateless" .) (has $tls (list "own-ca" "acme")) -}}
{{- $wrong = append $wrong (printf "clusterSecret excludes %s, because each pod would have a certificate of its own: choose tls.secret, cert-manager, ingress or httpEnabled." (eq $tls "acme" | ternary "acme.enabled" "an own CA")) -}}
{{- end -}}
{{- if and $v.clusterSecret.name (not (include "registry.stateless" .)) -}}
{{- $wrong = append $wrong "clusterSecret needs databaseSecret.name and blobs.location." -}}
{{- end -}}
{{- if and (not $v.blobs.location) (or $v.blobs.endpoint $v.blobs.credentialsSecret.name $v.blobs.caSecret) -}}
{{- $wrong = append $wrong "blobs needs blobs.location: s3://BUCKET/PREFIX." -}}
{{- end -}}
{{- if and $v.pvc.existingClaim $v.pvc.storageClassName -}}
{{- $wrong = append $wrong "pvc.existingClaim excludes pvc.storageClassName." -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n\n- %s\n" (join "\n- " $wrong)) -}}
{{- end -}}
{{- end -}}
