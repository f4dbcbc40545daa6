package oci

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"
)

func TestErrorsMatchByCodeAndStatus(t *testing.T) {
	err := fmt.Errorf("read tag: %w", ErrManifestUnknown.With("no tag %s", "v1").WithDetail(1))
	if !errors.Is(err, ErrManifestUnknown) || errors.Is(err, ErrBlobUnknown) {
		t.Errorf("%v", err)
	}
	if errors.Is(ErrRangeInvalid, ErrBlobUploadInvalid) || errors.Is(ErrSizeInvalid.WithStatus(418), ErrSizeInvalid) {
		t.Error("another status is the same error")
	}
	if AsError(errors.New("other")) != nil || AsError(err).Message != "no tag v1" ||
		ErrManifestUnknown.Message != "manifest unknown" {
		t.Errorf("%v", AsError(err))
	}
}

func TestErrorIsWrittenInTheSpecifiedForm(t *testing.T) {
	withDetail := ErrDenied.With("no").WithDetail(map[string][]string{"missing": {"a"}})
	withoutJSON := ErrDenied.With("a detail that JSON lacks").WithDetail(func() {})
	invalidName := AsError(CheckRepository("\xff"))
	for want, e := range map[string]*Error{
		`{"errors":[{"code":"DENIED","message":"no \"\u003c"}]}`:                             ErrDenied.With(`no "<`),
		`{"errors":[{"code":"DENIED","message":"no","detail":{"missing":["a"]}}]}`:           withDetail,
		`{"errors":[{"code":"DENIED","message":"a detail that JSON lacks"}]}`:                withoutJSON,
		`{"errors":[{"code":"NAME_INVALID","message":"invalid repository name \"\\xff\""}]}`: invalidName,
	} {
		w := httptest.NewRecorder()
		WriteError(w, e)
		if w.Code != e.Status || w.Body.String() != want ||
			w.Header().Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
		}
	}
}
