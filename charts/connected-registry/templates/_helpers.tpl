{{/* A field of the connection string: list of the root context and the key. */}}
{{- define "cr.field" -}}
{{- $text := (index . 0).Values.connectionString | default "" | replace "\n" "" | replace "\r" "" -}}
{{- $field := regexFind (printf "(?i)(^|;)[\\s\"'\\x{feff}]*%s\\s*=[^;]*" (index . 1)) $text -}}
{{- regexReplaceAll "^[^=]*=\\s*" $field "" | trim | trimAll "\"'" -}}
{{- end -}}

{{/* The first endpoint of the parent. */}}
{{- define "cr.parent" -}}
{{- include "cr.field" (list . "ParentGatewayEndpoint") | splitList "," | first | trim -}}
{{- end -}}

{{/* The service's name: the connected registry's, as a name in DNS. */}}
{{- define "cr.service" -}}
{{- $name := include "cr.field" (list . "ConnectedRegistryName") -}}
{{- .Values.service.name | default ($name | lower | replace "_" "-") -}}
{{- end -}}

{{- define "cr.fullname" -}}
{{- .Release.Name | trunc 46 | trimSuffix "-" -}}
{{- end -}}

{{- define "cr.image" -}}
{{- $parent := include "cr.parent" . -}}
{{- $repository := .Values.image.repository | default (printf "%s/ferry" $parent) -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The Secret with the login of the connection string, for the first pull, or "". */}}
{{- define "cr.syncPullSecret" -}}
{{- $parent := include "cr.parent" . -}}
{{- if and .Values.image.useSyncToken $parent (include "cr.field" (list . "SyncTokenPassword")) (hasPrefix (printf "%s/" $parent) (include "cr.image" .)) -}}
{{ include "cr.fullname" . }}-pull
{{- end -}}
{{- end -}}

{{/* That Secret's content. */}}
{{- define "cr.syncPullData" -}}
{{- $user := include "cr.field" (list . "SyncTokenName") -}}
{{- $password := include "cr.field" (list . "SyncTokenPassword") -}}
{{- $login := dict "username" $user "password" $password "auth" (printf "%s:%s" $user $password | b64enc) -}}
{{- dict "auths" (dict (include "cr.parent" .) $login) | toJson | b64enc -}}
{{- end -}}

{{/* The Secret that the connected registry makes, with its present login at the parent, or "". With a
connection string in a Secret, the templates do not know whether the image is the parent's. */}}
{{- define "cr.currentPullSecret" -}}
{{- $parent := include "cr.parent" . -}}
{{- if and .Values.image.useSyncToken (or (not $parent) (hasPrefix (printf "%s/" $parent) (include "cr.image" .))) -}}
{{ include "cr.fullname" . }}-pull-current
{{- end -}}
{{- end -}}

{{/* The namespaces with pods of the image, as a list in JSON. */}}
{{- define "cr.podNamespaces" -}}
{{- $all := list .Release.Namespace -}}
{{- if include "cr.trust" . }}{{ $all = append $all (include "cr.trustNamespace" .) }}{{ end -}}
{{- $all | uniq | toJson -}}
{{- end -}}

{{/* A kubelet tries the logins in this order, and a refused one counts as a failed login at the parent. */}}
{{- define "cr.pullSecrets" -}}
{{- $all := concat (list (include "cr.currentPullSecret" .)) .Values.image.pullSecrets (list (include "cr.syncPullSecret" .)) -}}
{{- $all = without $all "" -}}
{{- if $all -}}
imagePullSecrets:
  {{- range $all }}
  - name: {{ . }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- define "cr.scheme" -}}{{ .Values.httpEnabled | ternary "http" "https" }}{{- end -}}

{{- define "cr.port" -}}
{{ .Values.service.port | default (.Values.httpEnabled | ternary 80 443) | int }}
{{- end -}}

{{/* Where the certificate comes from: off, inline, secret, cert-manager or own-ca. */}}
{{- define "cr.tls" -}}
{{- if .Values.httpEnabled -}}off
{{- else if .Values.tls.secret -}}secret
{{- else if .Values.tls.crt -}}inline
{{- else if index .Values "cert-manager" "enabled" -}}cert-manager
{{- else -}}own-ca
{{- end -}}
{{- end -}}

{{- define "cr.tlsSecret" -}}
{{ .Values.tls.secret | default (printf "%s-tls" (include "cr.fullname" .)) }}
{{- end -}}

{{/* The variable with the service's address, which Kubernetes gives to pods of its namespace. */}}
{{- define "cr.addressVariable" -}}
{{ include "cr.service" . | upper | replace "-" "_" }}_SERVICE_HOST
{{- end -}}

{{/* The names of the service, as a list in JSON. */}}
{{- define "cr.dnsNames" -}}
{{- $service := include "cr.service" . -}}
{{- $names := list
  $service
  (printf "%s.%s" $service .Release.Namespace)
  (printf "%s.%s.svc" $service .Release.Namespace)
  (printf "%s.%s.svc.%s" $service .Release.Namespace .Values.clusterDomain) -}}
{{- with .Values.registryLoginServer }}{{ $names = append $names (include "cr.withoutPort" .) }}{{ end -}}
{{- toJson $names -}}
{{- end -}}

{{- define "cr.withoutPort" -}}
{{- regexReplaceAll ":[0-9]+$" . "" | trimPrefix "[" | trimSuffix "]" -}}
{{- end -}}

{{- define "cr.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: ferry
{{ include "cr.selector" . }}
{{- end -}}

{{- define "cr.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Whether the DaemonSet is installed: "true" or "". */}}
{{- define "cr.trust" -}}
{{- $enabled := .Values.trustDistribution.enabled | toString -}}
{{- if or (eq $enabled "true") (and (eq $enabled "auto") (not .Values.httpEnabled)) -}}true{{- end -}}
{{- end -}}

{{- define "cr.trustNamespace" -}}
{{ .Values.trustDistribution.namespace | default .Release.Namespace }}
{{- end -}}

{{- define "cr.trustName" -}}{{ include "cr.fullname" . }}-nodes{{- end -}}

{{/* The ConfigMap with the authority, beside the DaemonSet. */}}
{{- define "cr.caConfigMap" -}}{{ include "cr.fullname" . }}-ca{{- end -}}

{{/* The runtime of the nodes, from what they report to the cluster. */}}
{{- define "cr.runtime" -}}
{{- $found := dict -}}
{{- if eq .Values.trustDistribution.runtime "auto" -}}
{{- range (lookup "v1" "Node" "" "").items -}}
{{- $info := .status.nodeInfo -}}
{{- $runtime := "containerd" -}}
{{- if contains "Talos" $info.osImage -}}{{ $runtime = "talos" }}
{{- else if contains "CoreOS" $info.osImage | and (hasPrefix "cri-o" $info.containerRuntimeVersion) -}}{{ $runtime = "openshift" }}
{{- else if contains "+k3s" $info.kubeletVersion -}}{{ $runtime = "k3s" }}
{{- else if contains "+rke2" $info.kubeletVersion -}}{{ $runtime = "rke2" }}
{{- else if hasKey (.metadata.labels | default dict) "microk8s.io/cluster" -}}{{ $runtime = "microk8s" }}
{{- else if hasPrefix "cri-o" $info.containerRuntimeVersion -}}{{ $runtime = "crio" }}
{{- end -}}
{{- if ne $info.operatingSystem "windows" }}{{ $_ := set $found $runtime true }}{{ end -}}
{{- end -}}
{{- $kinds := keys $found | sortAlpha -}}
{{- if gt (len $kinds) 1 -}}
{{- fail (printf "\n\nThe nodes have different runtimes (%s), and the DaemonSet configures one of them: set trustDistribution.runtime, and trustDistribution.nodeSelector if other nodes must not be touched." (join ", " $kinds)) -}}
{{- end -}}
{{- range list "talos" "openshift" -}}
{{- if hasKey $found . -}}
{{- fail (printf "\n\nThe nodes run %s, which owns their files: set trustDistribution.enabled=false, and apply what `ferry client configure %s` prints." . .) -}}
{{- end -}}
{{- end -}}
{{- first $kinds | default "containerd" -}}
{{- else -}}
{{- .Values.trustDistribution.runtime -}}
{{- end -}}
{{- end -}}

{{/* The directories of the node that the runtime needs, as a list in JSON. */}}
{{- define "cr.hostPaths" -}}
{{- $paths := dict
  "containerd" (list "/etc/containerd")
  "k3s" (list "/var/lib/rancher/k3s/agent/etc/containerd" "/etc/rancher/k3s")
  "rke2" (list "/var/lib/rancher/rke2/agent/etc/containerd" "/etc/rancher/rke2")
  "microk8s" (list "/var/snap/microk8s/current/args")
  "crio" (list "/etc/containers") -}}
{{- .Values.trustDistribution.hostPaths | default (index $paths (include "cr.runtime" .)) | toJson -}}
{{- end -}}

{{/* The host that nodes use, without a port: the cluster IP, in brackets if it is IPv6. */}}
{{- define "cr.nodeHost" -}}
{{- if .Values.trustDistribution.endpoint -}}
{{- regexReplaceAll ":[0-9]+$" (regexReplaceAll "^https?://" .Values.trustDistribution.endpoint "") "" -}}
{{- else if contains ":" .Values.service.clusterIP -}}
[{{ .Values.service.clusterIP }}]
{{- else -}}
{{ .Values.service.clusterIP | default (printf "$(%s)" (include "cr.addressVariable" .)) }}
{{- end -}}
{{- end -}}

{{- define "cr.nodeEndpoint" -}}
{{- $port := include "cr.port" . -}}
{{- $suffix := eq $port (.Values.httpEnabled | ternary "80" "443") | ternary "" (printf ":%s" $port) -}}
{{ .Values.trustDistribution.endpoint | default (printf "%s://%s%s" (include "cr.scheme" .) (include "cr.nodeHost" .) $suffix) }}
{{- end -}}

{{/* The names under which pods name images of the connected registry, besides the endpoint's, as a
list in JSON: the address with and without its port, as the two are different registries to a node. */}}
{{- define "cr.nodeHosts" -}}
{{- $service := include "cr.service" . -}}
{{- $host := include "cr.nodeHost" . -}}
{{- $hosts := list
  (printf "%s.%s.svc" $service .Release.Namespace)
  (printf "%s.%s.svc.%s" $service .Release.Namespace .Values.clusterDomain) -}}
{{- if not .Values.trustDistribution.endpoint -}}
{{- $hosts = concat (list $host (printf "%s:%s" $host (include "cr.port" .))) $hosts -}}
{{- end -}}
{{- with .Values.registryLoginServer }}{{ $hosts = append $hosts . }}{{ end -}}
{{- concat $hosts .Values.trustDistribution.hosts | uniq | toJson -}}
{{- end -}}

{{/* Fails with one clear message unless the values make sense together. */}}
{{- define "cr.check" -}}
{{- $v := .Values -}}
{{- $cm := index $v "cert-manager" -}}
{{- $name := include "cr.field" (list . "ConnectedRegistryName") -}}
{{- $parent := include "cr.parent" . -}}
{{- $wrong := list -}}
{{- if and (not $v.connectionString) (not $v.connectionStringSecret.name) -}}
{{- $wrong = append $wrong "connectionString is required: ferry connected-registry get-settings -r REGISTRY -n NAME --parent-protocol https --generate-password 1 --yes prints it as ACR_REGISTRY_CONNECTION_STRING." -}}
{{- end -}}
{{- if $v.connectionString -}}
{{- if $v.connectionStringSecret.name -}}
{{- $wrong = append $wrong "connectionString and connectionStringSecret.name exclude each other." -}}
{{- end -}}
{{- $join := include "cr.field" (list . "JoinToken") -}}
{{- range list "ConnectedRegistryName" "SyncTokenName" ($join | empty | ternary "SyncTokenPassword" "JoinToken") "ParentGatewayEndpoint" "ParentEndpointProtocol" -}}
{{- $value := include "cr.field" (list $ .) -}}
{{- if not $value -}}
{{- $wrong = append $wrong (printf "connectionString has no %s; did the shell or a comma cut it?" .) -}}
{{- else if or (hasPrefix "<" $value) (contains "--generate-password" $value) -}}
{{- $wrong = append $wrong (printf "connectionString has a placeholder for %s: put the value in its place." .) -}}
{{- end -}}
{{- end -}}
{{- if and $join (not $v.image.repository) -}}
{{- $wrong = append $wrong "connectionString has a join token, with which nodes cannot pull the image from the parent: set image.repository, and image.pullSecrets if that needs a login." -}}
{{- end -}}
{{- else if $v.connectionStringSecret.name -}}
{{- if not $v.service.name -}}
{{- $wrong = append $wrong "connectionStringSecret.name needs service.name: the connected registry's name." -}}
{{- end -}}
{{- if not $v.image.repository -}}
{{- $wrong = append $wrong "connectionStringSecret.name needs image.repository: the image of Ferry that nodes can pull." -}}
{{- end -}}
{{- end -}}
{{- if and (contains "/" $parent) (not $v.image.repository) -}}
{{- $wrong = append $wrong (printf "The parent %s is below a path, where container runtimes find no images: set image.repository to the image of Ferry." $parent) -}}
{{- end -}}
{{- $service := include "cr.service" . -}}
{{- if and $service (not (regexMatch "^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$" $service)) -}}
{{- $wrong = append $wrong (printf "%q cannot be the name of a service: set service.name to lower-case letters, digits and -, with a letter first." $service) -}}
{{- end -}}
{{- if $v.httpEnabled -}}
{{- if or $v.tls.crt $v.tls.key $v.tls.cacrt $v.tls.secret -}}
{{- $wrong = append $wrong "httpEnabled excludes tls: with plain HTTP there is no certificate." -}}
{{- end -}}
{{- if $cm.enabled -}}
{{- $wrong = append $wrong "httpEnabled excludes cert-manager.enabled: with plain HTTP there is no certificate." -}}
{{- end -}}
{{- end -}}
{{- if ne (empty $v.tls.crt) (empty $v.tls.key) -}}
{{- $wrong = append $wrong "tls.crt and tls.key belong together." -}}
{{- end -}}
{{- if and $v.tls.secret (or $v.tls.crt $v.tls.cacrt) -}}
{{- $wrong = append $wrong "tls.secret excludes tls.crt, tls.key and tls.cacrt." -}}
{{- end -}}
{{- if and $v.tls.cacrt (not $v.tls.crt) (not $v.tls.secret) -}}
{{- $wrong = append $wrong "tls.cacrt needs tls.crt and tls.key." -}}
{{- end -}}
{{- if and $cm.enabled (or $v.tls.crt $v.tls.secret) -}}
{{- $wrong = append $wrong "cert-manager.enabled excludes tls: there is one certificate." -}}
{{- end -}}
{{- if $cm.install -}}
{{- $wrong = append $wrong "cert-manager.install is not possible, because cert-manager is not part of this chart. Install it with\n    helm install cert-manager oci://quay.io/jetstack/charts/cert-manager -n cert-manager --create-namespace --set crds.enabled=true\n  and set cert-manager.install=false. Or leave out both: the connected registry then makes its own authority." -}}
{{- end -}}
{{- if and $cm.enabled (not $v.httpEnabled) (not $v.service.clusterIP) (not $v.registryLoginServer) -}}
{{- $wrong = append $wrong "cert-manager.enabled needs service.clusterIP or registryLoginServer: the address for the certificate." -}}
{{- end -}}
{{- if and $v.pvc.existingClaim $v.pvc.storageClassName -}}
{{- $wrong = append $wrong "pvc.existingClaim excludes pvc.storageClassName." -}}
{{- end -}}
{{- if include "cr.trust" . -}}
{{- $t := $v.trustDistribution -}}
{{- $elsewhere := ne (include "cr.trustNamespace" .) .Release.Namespace -}}
{{- if and $elsewhere (has (include "cr.tls" .) (list "secret" "cert-manager")) -}}
{{- $wrong = append $wrong "trustDistribution.namespace must be the release's namespace with tls.secret and cert-manager, because its pods cannot read a Secret of another namespace." -}}
{{- end -}}
{{- if and $elsewhere (not $v.service.clusterIP) (not $t.endpoint) -}}
{{- $wrong = append $wrong "trustDistribution.namespace needs service.clusterIP (or trustDistribution.endpoint): pods of another namespace are not told the address." -}}
{{- end -}}
{{- if and $t.createNamespace (not $elsewhere) -}}
{{- $wrong = append $wrong "trustDistribution.createNamespace needs trustDistribution.namespace." -}}
{{- end -}}
{{- with $t.nodeCredentials -}}
{{- if and .token (not .password) (not .secret) -}}
{{- $wrong = append $wrong "trustDistribution.nodeCredentials.token needs password, or the name of a secret." -}}
{{- else if and (or .password .secret) (not .token) -}}
{{- $wrong = append $wrong "trustDistribution.nodeCredentials.password needs token: the name of the token." -}}
{{- else if and .password .secret -}}
{{- $wrong = append $wrong "trustDistribution.nodeCredentials: password and secret exclude each other." -}}
{{- end -}}
{{- end -}}
{{- if and (eq (include "cr.tls" .) "inline") (not $v.tls.cacrt) -}}
{{- $wrong = append $wrong "tls.crt needs tls.cacrt, the authority that nodes shall trust. For a certificate that nodes trust already, set trustDistribution.enabled=false." -}}
{{- end -}}
{{- if not $t.createNamespace -}}
{{- $namespace := lookup "v1" "Namespace" "" (include "cr.trustNamespace" .) -}}
{{- $enforced := dig "metadata" "labels" "pod-security.kubernetes.io/enforce" "" $namespace -}}
{{- if has $enforced (list "baseline" "restricted") -}}
{{- $wrong = append $wrong (printf "The namespace %s enforces the pod security %q, which forbids the DaemonSet to write the nodes' files. Set trustDistribution.namespace=%s-nodes, trustDistribution.createNamespace=true and service.clusterIP; or trustDistribution.enabled=false, and configure the nodes with ferry client configure." (include "cr.trustNamespace" .) $enforced .Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n\n- %s\n" (join "\n- " $wrong)) -}}
{{- end -}}
{{- end -}}
