package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
	"ferry/internal/oci"
)

// completionTime bounds the time of a completion, because a person waits for the shell.
const completionTime = 2 * time.Second

// maxCompletions bounds the names that a completion asks for.
const maxCompletions = 1000

// A nameSource is the kind of names that a flag takes.
type nameSource string

const (
	loginNames      nameSource = "saved logins"
	repositoryNames nameSource = "repositories"
	imageNames      nameSource = "images"
	actionNames     nameSource = "actions"
	// Any other is the path of a resource below the management API.
	registryNames nameSource = "connected-registries"
	tokenNames    nameSource = "tokens"
	scopeMapNames nameSource = "scope-maps"
	apiKeyNames   nameSource = "api-keys" // of an operator
)

// flagNamesOf are the sources of the names that flags take, by the flag. The map is never written.
var flagNamesOf = map[string]nameSource{
	"repository": repositoryNames, "add-repository": repositoryNames, "remove-repository": repositoryNames,
	"add": repositoryNames, "remove": repositoryNames, "image": imageNames, "scope-map": scopeMapNames,
	"sync-token": tokenNames, "client-tokens": tokenNames, "add-client-tokens": tokenNames,
	"remove-client-tokens": tokenNames, "token": tokenNames, "parent": registryNames, "gateway": registryNames,
	"repositories": repositoryNames,
	"operator":     "operators",
	"add-gateway":  registryNames, "remove-gateway": registryNames, "site": registryNames,
}

// nounNamesOf are the sources of the names that --name takes, by the noun of the command. The map
// is never written.
var nounNamesOf = map[string]nameSource{
	"connected-registry": registryNames, "token": tokenNames, "scope-map": scopeMapNames,
	"mirror": "mirror-rules", "import": "imports", "manifest": imageNames, "operator": "operators",
	"webhook": "webhooks", "purge-rule": "purge-rules", "api-key": apiKeyNames,
}

// sourceOf returns the source of the names that a flag of cmd takes; "" if it has none.
func sourceOf(cmd *cobra.Command, f *pflag.Flag) nameSource {
	path := strings.Fields(cmd.CommandPath())
	switch {
	case f.Value.Type() == "REGISTRY":
		return loginNames
	case f.Name == "name":
		for _, word := range slices.Backward(path) {
			if source := nounNamesOf[word]; source != "" {
				return source
			}
		}
		return ""
	case len(path) > 1 && path[1] == "install", strings.Contains(f.Value.Type(), "FILE"):
		return "" // its images are not in a registry that it asks
	}
	return flagNamesOf[f.Name]
}

// completeValue returns words for a value of a flag.
func completeValue(
	ctx context.Context, env *Env, cmd *cobra.Command, line readFlags, f *pflag.Flag, begun string,
) ([]completion, cobra.ShellCompDirective) {
	const noFiles = cobra.ShellCompDirectiveNoFileComp
	own, isOwn := f.Value.(*flag)
	kind := f.Value.Type()
	switch {
	case isOwn && own.choices != nil:
		return starting(plainWords(own.choices), begun), noFiles
	case kind == "bool":
		return starting(plainWords([]string{"true", "false"}), begun), noFiles
	case strings.HasPrefix(kind, "FILE"), strings.HasPrefix(kind, "DIR"):
		return nil, cobra.ShellCompDirectiveDefault
	}
	source := sourceOf(cmd, f)
	if strings.HasSuffix(kind, " ACTION...") && len(line.values[f.Name]) > 0 && !line.pending {
		kinds := []string{"content/read", "content/write", "content/delete", "metadata/read", "metadata/write"}
		if source == registryNames {
			kinds = []string{"config/read", "config/write", "message/read", "message/write"}
		}
		return starting(plainWords(kinds), begun), noFiles
	}
	var words []completion
	directive := noFiles
	switch source {
	case "":
	case loginNames:
		words = savedLogins(env)
	case imageNames:
		words, directive = imagesAt(ctx, env, line, begun)
	default:
		words = plainWords(namesAt(ctx, env, line, source))
	}
	given := line.values[f.Name]
	words = slices.DeleteFunc(words, func(c completion) bool { return slices.Contains(given, c.word) })
	return starting(words, begun), directive
}

// savedLogins returns the names of the saved logins, with their addresses.
func savedLogins(env *Env) (words []completion) {
	saved, _ := env.loadLogins()
	for _, name := range slices.Sorted(maps.Keys(saved)) {
		words = append(words, completion{name, saved[name].URL})
	}
	return words
}

// clientFor returns a client of the registry that a line names, for a completion.
func clientFor(env *Env, line readFlags) (*client, error) {
	registry := line.last("registry")
	if name := line.last("name"); registry == "" && name != "" {
		if saved, err := env.loadLogins(); err == nil {
			if _, err := saved.find(name); err == nil { // --name is the registry of some commands
				registry = name
			}
		}
	}
	t := target{registry: registry, user: line.last("username"), password: line.last("password")}
	c, err := t.client(env)
	if err == nil {
		c.waits = nil
	}
	return c, err
}

// namesAt returns the names of resources at the registry that a line names. Every failure is
// silent: nobody wants an error in the middle of a line.
func namesAt(ctx context.Context, env *Env, line readFlags, source nameSource) (names []string) {
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	c, err := clientFor(env, line)
	if err != nil {
		return nil
	}
	if source == apiKeyNames {
		source = nameSource("operators/" + url.PathEscape(cmp.Or(line.last("operator"), c.login.User)) + "/api-keys")
	}
	return namesOf(ctx, c, source)
}

// namesOf returns the names of resources at a registry, as far as it lists them.
func namesOf(ctx context.Context, c *client, source nameSource) (names []string) {
	if source == repositoryNames {
		all, _ := pages[string](ctx, c, "/v2/_catalog", url.Values{"n": {pageSize}}, "repositories", maxCompletions)
		return all.value
	}
	all, _ := pages[struct{ Name string }](ctx, c, api.Root+"/"+string(source), nil, "value", maxCompletions)
	for _, v := range all.value {
		names = append(names, v.Name)
	}
	return names
}

// imagesAt returns repositories or, once begun names one, its tags or digests.
func imagesAt(
	ctx context.Context, env *Env, line readFlags, begun string,
) (words []completion, directive cobra.ShellCompDirective) {
	at := strings.LastIndexAny(begun, ":@")
	if strings.Contains(begun, "@") {
		at = strings.Index(begun, "@")
	}
	if at < 0 {
		return plainWords(namesAt(ctx, env, line, repositoryNames)),
			cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	c, err := clientFor(env, line)
	repository := begun[:at]
	if err != nil || oci.CheckRepository(repository) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	kind := map[byte]string{':': "tags", '@': "manifests"}[begun[at]]
	all, _ := pages[struct{ Name, Digest string }](ctx, c, "/acr/v1/"+repository+"/_"+kind,
		url.Values{"n": {pageSize}}, kind, maxCompletions)
	for _, v := range all.value {
		words = append(words, completion{word: begun[:at+1] + cmp.Or(v.Name, v.Digest)})
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// proposeNames gives an error about a name that does not exist a hint with the nearest that does.
func proposeNames(cmd *cobra.Command, c *client, err error) error {
	if c == nil || statusOf(err) != http.StatusNotFound {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	hint := ""
	cmd.Flags().Visit(func(f *pflag.Flag) {
		source := sourceOf(cmd, f)
		if hint != "" || source == "" || source == loginNames {
			return
		}
		if source == imageNames {
			source = repositoryNames
		}
		var names []string
		for _, given := range strings.Split(f.Value.String(), separator) {
			if source == repositoryNames {
				given, _, _ = strings.Cut(given, "@")
				given, _, _ = strings.Cut(given, ":")
			}
			if names == nil {
				names = namesOf(ctx, c, source)
			}
			if near := nearestOf(given, names); near != "" && !slices.Contains(names, given) {
				hint = fmt.Sprintf("did you mean %s?", near)
				return
			}
		}
	})
	if hint == "" {
		return err
	}
	return withHint(err, "%s", hint)
}
