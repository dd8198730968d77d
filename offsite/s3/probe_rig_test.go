//go:build rig

package s3

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

// TestRigCannotDelete has a key that cannot delete: puts succeed, of probes one name
// stays, nothing is told of it, and a key that can delete leaves none.
func TestRigCannotDelete(t *testing.T) {
	for _, kind := range kinds {
		for _, c := range []struct {
			bucket  string
			b2      bool
			listFor time.Duration
		}{{"lock", false, 0}, {"versions", true, time.Minute}, {"plain", false, time.Minute}, {"plain", true, 0}} {
			name := kind + " " + c.bucket
			if c.b2 {
				name += " like B2"
			}
			t.Run(name, func(t *testing.T) {
				ctx := context.Background()
				s := start(t, kind)
				full := s.config(t, s.bucket(t, c.bucket))
				full.ListFor = c.listFor
				bound := full
				bound.Endpoint = s.proxy(t, func(w http.ResponseWriter, req *http.Request) bool {
					if req.Method == http.MethodDelete {
						refuse(w, http.StatusForbidden, "AccessDenied", "Access Denied")
						return true
					}
					return c.b2 && likeB2(w, req)
				})
				for _, round := range []string{"packs/one", "packs/two", "packs/three"} {
					bound.StateFile = "" // nothing is known from before
					r := connect(t, bound)
					store(t, r, round, "good")
					if kept, err := r.TryStore(ctx); kept == nil || err != nil {
						t.Fatalf("%s: kept %v: %v", round, kept, err)
					}
					if r.state.Conditional == c.b2 {
						t.Errorf("conditional puts: %v", r.state.Conditional)
					}
					entries, err := r.List(ctx, "incoming")
					if err != nil || len(entries) != 1 || entries[0].Name != "probe" {
						t.Errorf("%s: %v: %v", round, entries, err)
					}
					if told := r.Tampering(); len(told) > 0 {
						t.Errorf("%s: %v", round, told)
					}
				}
				if kept, err := connect(t, full).TryStore(ctx); kept != nil || err != nil {
					t.Fatalf("the key that can delete: kept %v: %v", kept, err)
				}
				left := minio.ListObjectsOptions{Recursive: true, WithVersions: true}
				left.Prefix = full.key("incoming") + "/"
				for info := range s.admin.ListObjectsIter(ctx, full.Bucket, left) {
					t.Errorf("left: %s %s (%v)", info.Key, info.VersionID, info.Err)
				}
			})
		}
	}
}
