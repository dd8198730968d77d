//go:build rig

package s3

import (
	"testing"

	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/remotetest"
)

// TestRigContract runs the contract on two real servers, in buckets of each kind,
// and through a proxy that lacks what B2 lacks.
func TestRigContract(t *testing.T) {
	for _, c := range []struct {
		name, server, bucket string
		b2                   bool
	}{
		{"minio with Object Lock", "minio", "lock", false},
		{"minio with versions", "minio", "versions", false},
		{"minio plain", "minio", "plain", false},
		{"versitygw with Object Lock", "versitygw", "lock", false},
		{"versitygw with versions", "versitygw", "versions", false},
		{"versitygw plain", "versitygw", "plain", false},
		{"like B2", "minio", "versions", true},
		{"like B2, plain", "minio", "plain", true},
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
				cfg.Endpoint = endpoint
				return connect(t, cfg)
			}, remotetest.Options{Keys: true})
		})
	}
}
