package management

import (
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"ferry/internal/api"
)

// A parameter describes the name in the paths of one kind of resource.
type parameter struct{ doc, example string }

// parameters are the names in paths, by the first segment of the path. The map is never written.
var parameters = map[string]parameter{
	"connected-registries": {"The name of the connected registry.", "ship1"},
	"imports":              {"The name of the import, from the answer that began it.", "3f2a9c0d"},
	"mirror-rules":         {"The name of the mirror rule.", "alpine"},
	"operators":            {"The name of the operator.", "ci"},
	"webhooks":             {"The name of the webhook.", "deploy"},
	"purge-rules":          {"The name of the purge rule.", "nightly"},
	"repositories":         {"The name of the repository; its slashes may be escaped or not.", "factory/app"},
	"scope-maps":           {"The name of the scope map.", "pullers"},
	"tokens":               {"The name of the token.", "line1"},
}

// bodyExamples returns examples of requests' bodies, by the id of the operation.
func bodyExamples() map[string]any {
	return map[string]any{
		"create-connected-registry": api.RegistryPut{
			Repositories: []string{"factory/app"}, ClientTokens: []string{"line1"},
			Settings: api.Settings{Schedule: new("30 * * * *"), SyncWindow: new("PT1H"), TagFilters: []string{"v1.*"}},
		},
		"update-connected-registry": api.RegistryPatch{
			AddClientTokens: []string{"line1"},
			Settings:        api.Settings{ByteBudget: new("2GiB/day"), Priorities: []string{"ops/*=urgent"}},
		},
		"update-permissions": api.PermissionsPatch{Add: []string{"factory/*", "!factory/secret"}},
		"sync-resolve":       api.SyncResolvePost{Repository: "factory/app", Item: "v1"},
		"get-settings":       api.SettingsPost{ParentProtocol: "https", GeneratePassword: 1},
		"set-credentials":    api.CredentialsPut{Credentials: "ferry_password"},
		"put-scope-map": api.ScopeMapPut{Description: "Machines that pull",
			Actions: []string{"repositories/factory/app/content/read", "repositories/factory/app/metadata/read"}},
		"update-scope-map": api.ScopeMapPatch{AddActions: []string{"repositories/factory/tool/content/read"}},
		"put-token":        api.TokenPut{ScopeMap: "pullers", Passwords: []api.PasswordPut{{Name: api.Password1}}},
		"update-token":     api.TokenPatch{Status: new(api.Disabled)},
		"generate-credentials": api.CredentialsPost{
			Passwords: []string{api.Password1},
			Expiry:    new(time.Date(2031, 12, 31, 12, 59, 59, 0, time.UTC)),
		},
		"put-operator": api.OperatorPut{Role: api.RoleAdmin, Repositories: []string{"team/*"},
			Labels: []string{"group=baltic"}},
		"update-operator":       api.OperatorPatch{Role: new(api.RoleReader)},
		"set-operator-password": api.PasswordPost{Password: "correct horse battery staple"},
		"create-api-key": api.APIKeyPut{Expiry: time.Date(2027, 12, 31, 12, 59, 59, 0, time.UTC), Role: api.RoleReader,
			Repositories: []string{"team/app"}},
		"import": api.ImportPost{Source: "docker.io/library/alpine:3.20", Images: []string{"mirror/alpine:3.20"}},
		"put-mirror-rule": api.MirrorRulePut{Source: "docker.io/library/alpine", Repository: "mirror/alpine",
			Schedule: "0 2 * * *", TagFilters: []string{"3.*"}},
		"put-webhook": api.WebhookPut{
			URI: "https://ci.example/hooks/ferry", Actions: []string{"complete", "failed"}, Scope: "factory/*:*",
		},
		"update-webhook":       api.WebhookPatch{Actions: []string{"push", "delete"}, Status: new(api.Disabled)},
		"retry-webhook-events": api.WebhookRetry{},
		"update-mirror-rule":   api.MirrorRulePatch{TagFilters: []string{"3.20", "3.21"}},
		"purge": api.PurgePost{PurgePolicy: api.PurgePolicy{Filters: []string{"factory/*:^dev-"}, Ago: "30d", Keep: 5},
			DryRun: true},
		"put-purge-rule": api.PurgeRulePut{
			PurgePolicy: api.PurgePolicy{Filters: []string{"factory/*:^dev-"}, Ago: "30d", Untagged: true}},
	}
}

// addExamples gives each operation of the OpenAPI document an example of its path and body.
func addExamples(doc *huma.OpenAPI) {
	bodies := bodyExamples()
	for path, item := range doc.Paths {
		kind, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		for _, op := range []*huma.Operation{item.Get, item.Put, item.Patch, item.Post, item.Delete} {
			if op == nil {
				continue
			}
			op.Tags = []string{kind}
			for _, p := range op.Parameters {
				if p.In == "path" && p.Name == "name" {
					p.Description, p.Example = parameters[kind].doc, parameters[kind].example
				} else if p.Example == nil && len(p.Schema.Examples) > 0 {
					p.Example = p.Schema.Examples[0]
				}
			}
			if op.RequestBody != nil && bodies[op.OperationID] != nil {
				for _, content := range op.RequestBody.Content {
					content.Example = bodies[op.OperationID]
				}
			}
		}
	}
}
