//go:build rig

package s3

import (
	"testing"
	"time"

	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/remotetest"
)

// TestRigContract runs the contract on two real servers, in buckets of each kind,
// and through a proxy that lacks what B2 lacks.
func TestRigContract(t *testing.T) {
	for _, c := range []struct {
		name, server, bucket string
		b2                   bool
		listFor              time.Duration
	}{
		{"minio with Object Lock", "minio", "lock", false, 0},
		{"minio with versions", "minio", "versions", false, 0},
		{"minio plain", "minio", "plain", false, 0},
		{"versitygw with Object Lock", "versitygw", "lock", false, 0},
		{"versitygw with versions", "versitygw", "versions", false, 0},
		{"versitygw plain", "versitygw", "plain", false, 0},
		{"like B2", "minio", "versions", true, 0},
		{"like B2, plain", "minio", "plain", true, 0},
		{"minio with Object Lock, one listing", "minio", "lock", false, time.Minute},
		{"versitygw with versions, one listing", "versitygw", "versions", false, time.Minute},
		{"like B2, one listing", "minio", "versions", true, time.Minute},
		{"minio plain, one listing", "minio", "plain", false, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, c.server)
			bucket := s.bucket(t, c.bucket)
			endpoint := s.endpoint
			if c.b2 {
				endpoint = s.proxy(t, likeB2)
			}
			remotetest.Run(t, func(t *testing.T, root string) offsite.Remote {
				cfg := s.config(t, bucket)
				cfg.Endpoint, cfg.ListFor = endpoint, c.listFor
				return connect(t, cfg)
			}, remotetest.Options{Keys: true})
		})
	}
}
