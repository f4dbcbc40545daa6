package fleet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

// However the tree, its tokens and its scope maps change, the bound holds.
func TestRoomIsABoundOfTheDesiredState(t *testing.T) {
	c := storagetest.New(t, storage.Options{})
	resources, err := control.New(t.Context(), control.Options{DB: c.DB})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), Options{DB: c.DB, Control: resources, Content: c.Storage})
	if err != nil {
		t.Fatal(err)
	}
	var (
		by     = control.Caller{Name: "admin"}
		any    = control.Precondition{}
		random = rand.New(rand.NewPCG(1, 2))
		long   = strings.Repeat("long", 50)
		names  []string
	)
	must := func(step string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
	}
	token := func() string { return fmt.Sprint("line", random.IntN(5)) }
	for i := range 5 {
		name := fmt.Sprint("line", i)
		_, err := resources.PutScopeMap(t.Context(), by, name, api.ScopeMapPut{
			Actions: []string{"repositories/a/content/read"}}, any)
		must("scope map", err)
		_, err = resources.PutToken(t.Context(), by, name, api.TokenPut{ScopeMap: name}, any)
		must("token", err)
	}
	create := func(name, parent string) {
		_, err := s.Create(t.Context(), by, name, api.RegistryPut{Parent: parent, Mode: api.ReadWrite,
			Repositories: []string{"a", long + "/*"}, ClientTokens: []string{token()}}, any)
		must("create", err)
	}
	create("ship1", "")
	create("other", "")
	for i := range 80 {
		pick := "ship1"
		if len(names) > 0 {
			pick = names[random.IntN(len(names))]
		}
		switch random.IntN(7) {
		case 0, 1:
			names = append(names, fmt.Sprint("cabin", i))
			create(names[len(names)-1], pick)
		case 2:
			_, err = s.Update(t.Context(), by, pick, api.RegistryPatch{AddClientTokens: []string{token()}}, any)
		case 3:
			_, err = s.UpdatePermissions(t.Context(), by, pick,
				api.PermissionsPatch{Add: []string{fmt.Sprint("new/", i)}}, any)
		case 4: // its ancestors keep the repository, and its descendants lose it, too
			_, err = s.UpdatePermissions(t.Context(), by, pick, api.PermissionsPatch{Remove: []string{"a"}}, any)
		case 5: // its descendants have gaps from now on
			_, err = resources.PutScopeMap(t.Context(), by, "ship1",
				api.ScopeMapPut{Actions: []string{"repositories/a/content/read"}}, any)
		case 6:
			if pick != "ship1" && len(s.control.State().Children(pick)) == 0 {
				_, err = s.Delete(t.Context(), by, pick, true, any)
				names = slices.DeleteFunc(names, func(name string) bool { return name == pick })
			}
		}
		must("change", err)
		state := s.control.State()
		top := state.Registry("ship1")
		if _, err := s.rooms.has(s.control, state, top, nil); err != nil {
			t.Fatal(err)
		}
		b := newBuilder(state)
		b.tree(top)
		size, err := gateway.SizeOf(&b.d)
		must("measure", err)
		fresh, err := newRoom(state, top)
		must("room", err)
		for kind, bound := range map[string]gateway.DesiredSize{
			"kept": s.rooms.of["ship1"].total, "fresh": fresh.total} {
			if bound.Text < size.Text || bound.Memory < size.Memory {
				t.Fatalf("after %d changes, the %s bound is %v, and the desired state is %v", i, kind, bound, size)
			}
			if bound.Text > 2*size.Text {
				t.Fatalf("after %d changes, the %s bound is %v for %v", i, kind, bound, size)
			}
		}
	}
}
