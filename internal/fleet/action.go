package fleet

import (
	"strings"

	"ferry/internal/auth"
)

// repositoryActions returns the scope map's actions for repositories that a
// connected registry syncs.
func repositoryActions(repositories []string) []string {
	var all []string
	for _, r := range repositories {
		for _, a := range []auth.Action{auth.ContentRead, auth.MetadataRead} {
			all = append(all, auth.OnRepository+"/"+r+"/"+string(a))
		}
	}
	return all
}

// gatewayActions returns the scope map's actions for the gateway of a
// connected registry, whose name is in lower case there.
func gatewayActions(name string) []string {
	var all []string
	for _, a := range []auth.Action{auth.ConfigRead, auth.ConfigWrite, auth.MessageRead, auth.MessageWrite} {
		all = append(all, auth.OnGateway+"/"+strings.ToLower(name)+"/"+string(a))
	}
	return all
}
