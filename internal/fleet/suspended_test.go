package fleet

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// A server that is not ready because clusters are suspended is up: nobody waits
// until they are resumed.
func TestSuspendedServersAreUp(t *testing.T) {
	const suspended = "cluster main is suspended; perdure cluster resume ends that\n"
	const waits = "service main-1 of cluster main: no leader\n"
	for _, tc := range []struct {
		text string
		code int
		ok   bool
		why  []string
	}{
		{"ok\n", http.StatusOK, true, []string{"ok"}},
		{suspended, http.StatusServiceUnavailable, true, nil},
		{suspended + strings.Replace(suspended, "main", "other", 1), http.StatusServiceUnavailable, true, nil},
		{waits + suspended, http.StatusServiceUnavailable, false, []string{strings.TrimSpace(waits)}},
		{"", http.StatusServiceUnavailable, false, nil},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tc.code)
			_, _ = io.WriteString(w, tc.text)
		}))
		if ok, why := AskReady(t.Context(), strings.TrimPrefix(s.URL, "http://")); ok != tc.ok || !slices.Equal(why, tc.why) {
			t.Errorf("%q: %v, %q", tc.text, ok, why)
		}
		s.Close()
	}
}
