package management

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"ferry/internal/api"
	"ferry/internal/control"
)

// An AboutKey is a call about an API key of the operator in its path.
type AboutKey struct {
	About
	Key string `path:"key" doc:"The name of the API key." example:"build"`
}

func (h *handler) operators() {
	const path, keys = "/operators/{name}", "/operators/{name}/api-keys"
	register(h, operation{"GET /login", "get-login", "Get the operator of this request"},
		func(ctx context.Context, _ *Call) (*plain[api.Login], error) {
			p := principalOf(ctx)
			v := api.Login{Name: p.Name, APIKey: api.Text(p.Key), Role: api.RoleReader, Limits: p.Limits.Any()}
			if p.Admin {
				v.Role = api.RoleAdmin
			}
			return &plain[api.Login]{v}, nil
		})
	register(h, operation{"GET /operators", "list-operators", "List the operators"},
		func(ctx context.Context, _ *Call) (*collection[api.Operator], error) {
			return listed(h.Control.Operators(ctx))
		})
	register(h, operation{"GET " + path, "get-operator", "Get an operator"}, show(h.Control.Operator))
	register(h, operation{"PUT " + path, "put-operator",
		"Create an operator, or replace it; only this answer has a generated password"},
		write(neverUnheard, h.Control.PutOperator))
	register(h, operation{"PATCH " + path, "update-operator", "Change the role or the limits of an operator"},
		write(neverUnheard, h.Control.UpdateOperator))
	register(h, operation{"DELETE " + path, "delete-operator", "Delete an operator with its API keys"},
		remove(neverUnheard, h.Control.DeleteOperator))
	register(h, operation{"POST " + path + "/password", "set-operator-password",
		"Set or generate the password of an operator, which ends its logins"},
		ask(neverUnheard, h.Control.SetOperatorPassword))
	register(h, operation{"GET " + keys, "list-api-keys", "List the API keys of an operator"},
		func(ctx context.Context, in *About) (*collection[api.APIKey], error) {
			return listed(h.Control.APIKeys(ctx, in.Name))
		})
	register(h, operation{"PUT " + keys + "/{key}", "create-api-key",
		"Create an API key of an operator; only this answer has its value"},
		func(ctx context.Context, in *struct {
			AboutKey
			Body api.APIKeyPut
		}) (*plain[api.APIKey], error) {
			v, err := h.Control.CreateAPIKey(ctx, in.by, in.Name, in.Key, in.Body)
			return &plain[api.APIKey]{v}, err
		})
	register(h, operation{"DELETE " + keys + "/{key}", "delete-api-key", "Delete an API key of an operator"},
		func(ctx context.Context, in *AboutKey) (*deletion, error) {
			return removed(h.Control.DeleteAPIKey(ctx, in.by, in.Name, in.Key), neverUnheard(in.by, in.Name))
		})
}

// resetAtMachine answers a request for a new password of an operator from the owner of the data
// directory.
func (h *handler) resetAtMachine(w http.ResponseWriter, r *http.Request, operator string) {
	password, err := h.Control.ResetAtMachine(r.Context(), h.DataDir, operator)
	if err != nil {
		writeProblem(w, h.problemOf(r.Context(), operation{id: "reset-password"}, err))
		return
	}
	w.Header().Set("Content-Type", plainJSON)
	json.NewEncoder(w).Encode(api.PasswordPost{Password: password}) // an error means that the client is gone
}

// operatorInReset returns the operator in the path of a request to set a password.
func operatorInReset(r *http.Request) (operator string, ok bool) {
	if r.Method != http.MethodPost {
		return "", false
	}
	rest, ok := strings.CutPrefix(r.URL.Path, api.Root+"/"+control.KindOperator+"/")
	if !ok {
		return "", false
	}
	operator, ok = strings.CutSuffix(rest, "/password")
	return operator, ok && !strings.Contains(operator, "/")
}
