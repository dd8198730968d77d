package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
)

// maxRegistryKeys bounds the top-level keys of a registry that are compared.
const maxRegistryKeys = 10_000

// registryEntries returns how many entries each top-level list or object of a
// registry has, in memory that does not grow with their number. What is no object
// has none, and of one with more keys than anybody's registry nothing is known.
func registryEntries(ctx context.Context, data []byte) map[string]int {
	entries := map[string]int{}
	d := json.NewDecoder(bytes.NewReader(withoutConstants(data)))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return entries
	}
	for d.More() && ctx.Err() == nil {
		key, err := d.Token()
		var value json.RawMessage
		if err == nil {
			err = d.Decode(&value)
		}
		name, ok := key.(string)
		if err != nil || !ok {
			return entries
		}
		if entries[name] = countEntries(value); len(entries) > maxRegistryKeys {
			return map[string]int{}
		}
	}
	return entries
}

// countEntries counts the entries of a JSON list or object that is well-formed,
// and is 0 for anything else.
func countEntries(value []byte) (n int) {
	value = bytes.TrimSpace(value)
	if len(value) < 2 || value[0] != '[' && value[0] != '{' || len(bytes.TrimSpace(value[1:len(value)-1])) == 0 {
		return 0
	}
	depth, inString := 0, false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case c == ',' && depth == 1:
			n++
		}
	}
	return n + 1
}
