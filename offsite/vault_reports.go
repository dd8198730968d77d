package offsite

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// Report is what a verify or a drill on the second machine found. It is not
// signed, so it can add findings, and never take one away.
type Report struct {
	At       time.Time `json:"at"`
	What     string    `json:"what"` // "verify" or "drill"
	Version  string    `json:"version"`
	OK       bool      `json:"ok"`
	Findings []Finding `json:"findings"`
}

// Bounds on the reports that a host takes up at once: whoever can write there can
// write many.
const (
	maxReports        = 64
	maxReportFindings = 10_000
)

var reportPattern = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-(verify|drill)-[0-9a-f]{6}\.json$`)

func isReport(name string) bool { return reportPattern.MatchString(name) }

// PutReport leaves a report in the vault.
func (v *Vault) PutReport(ctx context.Context, r Report) error {
	suffix, err := randomHex(3)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s/%s-%s-%s.json", reportsDir, r.At.UTC().Format("20060102T150405Z"), r.What, suffix)
	_, err = v.remote.Put(ctx, name, bytes.NewReader(append(data, '\n')))
	return err
}

// TakeReports reads the reports that checks has not seen, the newest ones first,
// and returns what they found of objects that a current push needs.
func (v *Vault) TakeReports(ctx context.Context, s *Survey, checks *Checks) (findings []Finding, err error) {
	entries, err := v.list(ctx, reportsDir)
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e Entry) bool { return e.Dir || !isReport(e.Name) })
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(b.Name, a.Name) })
	entries = entries[:min(len(entries), maxReports)]
	needed := s.neededBy(s.Current)
	var seen []string
	for _, e := range entries {
		seen = append(seen, e.Name)
		if slices.Contains(checks.Reports, e.Name) {
			continue
		}
		data, err := readAll(ctx, v.remote, reportsDir+"/"+e.Name, maxInfo)
		if isTransportError(err) || ctx.Err() != nil {
			return nil, cmp.Or(err, ctx.Err())
		}
		var r Report
		if err != nil || json.Unmarshal(data, &r) != nil {
			continue // somebody's scribble
		}
		for _, f := range r.Findings[:min(len(r.Findings), maxReportFindings)] {
			pushes, ok := needed[f.Object]
			if !ok || !printable(f.What) || checks.Read[f.Object].At.After(e.MTime) {
				continue
			}
			findings = append(findings, Finding{Object: f.Object, What: f.What, Stamps: stamps(pushes)})
		}
	}
	checks.Reports = seen
	return findings, nil
}
