package setup

import (
	"archive/tar"
	"bytes"
	"testing"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
)

// FuzzHostDocument: whatever a host document holds, what is read of it is bounded, and
// no command of its configuration survives that nobody has confirmed.
func FuzzHostDocument(f *testing.F) {
	for _, text := range []string{
		"", "[restore]\nstop_command = [\"a\"]\n", "restore.stop_command = [\"a\",\n \"]\"]\n",
		"restore = {stop_command = ['a']}\n", "[restore]\n\"stop_command\" = [\"a\"]\n", "[notify]\ncommand = [\n\"a\"\n]\n",
		"[backup]\ndb_path = '/a'\nfreeze_command = [\"a\"] # ]\nthaw_command = ['''\n]''']\n", "[restore]\n\tstop_command=[\"[\"]",
	} {
		var document bytes.Buffer
		w := tar.NewWriter(&document)
		if err := w.WriteHeader(&tar.Header{Name: app.HostConfigName, Size: int64(len(text)), Mode: 0o600}); err != nil {
			f.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			f.Fatal(err)
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(document.Bytes(), []byte(text))
	}
	f.Fuzz(func(t *testing.T, document, text []byte) {
		total := 0
		parts, err := untar(document)
		for _, part := range parts {
			total += len(part)
		}
		if total > bootstrapMost {
			t.Errorf("%d bytes were read", total)
		}
		if err != nil {
			parts = nil
		}
		for _, text := range [][]byte{text, parts[app.HostConfigName]} {
			unconfirmed(t, text)
		}
	})
}

// unconfirmed passes a configuration through the hands of somebody who confirms
// nothing.
func unconfirmed(t *testing.T, text []byte) {
	left, err := BootstrapRequest{}.confirmed(text, &BootstrapReport{Config: "config.toml"})
	if err != nil {
		return
	}
	cfg, err := config.Parse("config.toml", left)
	if err != nil {
		t.Fatalf("%v\n%s", err, left)
	}
	for _, c := range commands(cfg) {
		if len(c.Argv) > 0 {
			t.Errorf("%s = %q was left in\n%s", c.Key, c.Argv, left)
		}
	}
}
