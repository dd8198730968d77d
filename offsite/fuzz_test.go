package offsite

import (
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/retention"
)

// FuzzPolicyDocument: whatever a signed document says, what the second machine
// keeps by its own policy is kept.
func FuzzPolicyDocument(f *testing.F) {
	const id = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"
	f.Add([]byte(`{"vault_id":"` + id + `","retention":{"daily":1,"weekly":0,"monthly":-1,"keep_within":"48h0m0s",` +
		`"pre_restore_days":30,"invalid_days":7,"max_delete_fraction":1,"timezone":"UTC","week_start":"sunday"},` +
		`"pinned":["20260407T060000Z"],"suspect":[],"accepted":["20260407T060000Z"],"forgotten":[]}`))
	f.Add([]byte(`{"vault_id":"` + id + `","retention":{"daily":-9223372036854775808,` +
		`"invalid_days":9223372036854775807}}`))
	f.Add([]byte(`{"vault_id":"` + id + `","retention":{"timezone":"../../etc","keep_within":"-9999h"},"pinned":null}`))
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	var list []retention.Snapshot
	for at := now.AddDate(0, -2, 0); at.Before(now); at = at.Add(13 * time.Hour) {
		list = append(list, retention.Snapshot{
			Stamp: at.Format(retention.StampLayout), Time: at, Kind: retention.KindDaily, Valid: true, Full: true,
		})
	}
	own := retention.Policy{Daily: 5, Weekly: 3, Monthly: 2, PreRestore: retention.Day, MaxDeleteFraction: 0.5}
	keeps := make(map[string]bool)
	for _, v := range retention.Plan(list, own, now).Keep() {
		keeps[v.Stamp] = true
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePolicy(data, id)
		if err != nil {
			return
		}
		o := PruneOptions{Policy: own}
		o.lengthen([]PolicyDocument{p})
		var plan []retention.Snapshot
		for _, s := range list {
			o.Adjust(&s)
			plan = append(plan, s)
		}
		d := retention.Plan(plan, o.Policy, now)
		for _, v := range d.Delete() {
			if keeps[v.Stamp] {
				t.Errorf("%s is deleted: %q", v.Stamp, v.Reasons)
			}
		}
		if o.Policy.MaxDeleteFraction != own.MaxDeleteFraction || o.Policy.WeekStart != own.WeekStart {
			t.Errorf("the policy became %+v", o.Policy)
		}
	})
}

// FuzzTrashMarkers: whatever lies in trash/, sweeping it ends without an error and
// removes nothing elsewhere, and no pack that is named.
func FuzzTrashMarkers(f *testing.F) {
	pack := string(hostilePush) + "-000000"
	for _, name := range []string{pack + ".since", ".since", "..since", "a.since", pack + ".age", pack,
		"x.age.since", "-.since"} {
		f.Add(name, uint16(20*24), true)
		f.Add(name, uint16(1), false)
	}
	f.Fuzz(func(t *testing.T, name string, hours uint16, isNamed bool) {
		if !ValidName(name) || strings.Contains(name, "/") || name == "." || len(name) > 200 {
			return
		}
		now := time.Now()
		old := now.Add(-time.Duration(hours) * time.Hour)
		mem := memory{
			"vault.json": now, packName("keep"): old, trashName(pack): old, trashMarker(pack): old,
			trashDir + "/" + name: old, snapshotsDir + "/" + name: old,
		}
		v := &Vault{remote: mem}
		var result Pruned
		named := map[string]bool{pack: isNamed}
		if err := v.emptyTrash(t.Context(), now, PruneOptions{Signers: crypt.Signers{}}, named, &result); err != nil {
			t.Fatal(err)
		}
		for _, other := range []string{"vault.json", packName("keep"), snapshotsDir + "/" + name} {
			if _, ok := mem[other]; !ok {
				t.Errorf("%s is gone", other)
			}
		}
		_, inTrash := mem[trashName(pack)]
		_, back := mem[packName(pack)]
		if isNamed && !back || !isNamed && !inTrash && hours <= 7*24 {
			t.Errorf("the pack is in trash %v, back %v, after %d hours: %v", inTrash, back, hours, mem)
		}
	})
}
