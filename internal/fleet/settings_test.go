package fleet

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/api"
	"ferry/internal/wire"
)

func TestEverySettingCanBeChanged(t *testing.T) {
	for f := range reflect.TypeFor[api.Settings]().Fields() {
		var c api.Settings
		given := reflect.ValueOf(&c).Elem().FieldByIndex(f.Index)
		switch f.Type.Kind() {
		case reflect.Pointer:
			given.Set(reflect.New(f.Type.Elem()))
		case reflect.Map:
			given.Set(reflect.ValueOf(map[string]string{"x": "y"}))
		default:
			given.Set(reflect.MakeSlice(f.Type, 0, 0))
		}
		had := wire.Spec{
			Schedule: "x", SyncWindow: "x", MessageTTL: "x", LogLevel: "x", GCEnabled: true, GCSchedule: "x",
			TagFilters: []string{"x"}, KeepLast: 1,
			Platforms: []string{"x"}, Bandwidth: []string{"x"}, ByteBudget: "x", Priorities: []string{"x"},
			Labels: map[string]string{"x": "x"},
		}
		want := had
		field := reflect.ValueOf(&want).Elem().FieldByName(f.Name)
		field.Set(reflect.Indirect(given))
		merge(&had, c)
		if diff := cmp.Diff(want, had); diff != "" {
			t.Errorf("%s: %s", f.Name, diff)
		}
	}
}

func TestPatchKeepsOtherSettings(t *testing.T) {
	v := defaults().Spec
	v.TagFilters, v.KeepLast, v.Platforms = []string{"v1.*"}, 3, []string{"linux/amd64"}
	want := v
	if err := changeSettings(&v, api.Settings{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Error(diff)
	}
}
