package offsite

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// sum is one line of SHA256SUMS.
type sum struct {
	SHA256 string
	Name   string // from the vault's root
}

// formatSums writes what `sha256sum -c` reads from the vault's root.
func formatSums(sums []sum) []byte {
	var b strings.Builder
	for _, s := range sums {
		b.WriteString(s.SHA256 + "  " + s.Name + "\n")
	}
	return []byte(b.String())
}

var sumPattern = regexp.MustCompile(`^([0-9a-f]{64})  (\S.*)$`)

// parseSums reads the SHA256SUMS of one push and refuses names that it cannot
// hold: anything but this push's manifest and json, and packs.
func parseSums(push PushID, data []byte) ([]sum, error) {
	var sums []sum
	seen := make(map[string]bool)
	i := -1
	for text := range bytes.Lines(data) {
		i++
		if i >= maxSumLines {
			return nil, fmt.Errorf("%s: it has more than %d lines", push.object(sumsSuffix), maxSumLines)
		}
		m := sumPattern.FindStringSubmatch(strings.TrimSuffix(string(text), "\n"))
		if m == nil {
			return nil, fmt.Errorf("%s: line %d is not a checksum", push.object(sumsSuffix), i+1)
		}
		name := m[2]
		id, isPack := packID(name)
		own := name == push.object(manifestSuffix) || name == push.object(infoSuffix)
		if !own && (!isPack || !packPattern.MatchString(id)) {
			return nil, fmt.Errorf(
				"%s: line %d names %q, which does not belong to it", push.object(sumsSuffix), i+1, name,
			)
		}
		if seen[name] {
			return nil, fmt.Errorf("%s: line %d names %q again", push.object(sumsSuffix), i+1, name)
		}
		seen[name] = true
		sums = append(sums, sum{m[1], name})
	}
	if len(sums) == 0 {
		return nil, fmt.Errorf("%s: line 1 is not a checksum: the file is empty", push.object(sumsSuffix))
	}
	for _, suffix := range []string{manifestSuffix, infoSuffix} {
		if !seen[push.object(suffix)] {
			return nil, fmt.Errorf("%s does not name %s", push.object(sumsSuffix), push.object(suffix))
		}
	}
	return sums, nil
}

// namedIn calls name for each pack that a SHA256SUMS names, signed or not. Lines
// that are none are passed over: they name nothing.
func namedIn(data []byte, name func(id string)) {
	for text := range bytes.Lines(data) {
		line := bytes.TrimSuffix(text, []byte("\n"))
		if len(line) <= 66 || len(line) > 256 {
			continue
		}
		if id, ok := packID(string(line[66:])); ok && packPattern.MatchString(id) {
			name(id)
		}
	}
}
