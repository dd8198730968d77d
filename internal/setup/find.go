package setup

import (
	"context"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// usualAPI is where AtoCore answers.
const usualAPI = "http://127.0.0.1:8100"

// findService looks for what a restore needs of the service: whether it answers,
// and the compose file that stops and starts it. What was given stays.
func (r *InitRequest) findService(ctx context.Context) {
	if r.HealthURL == "" && answers(ctx, usualAPI+"/health") {
		r.HealthURL = usualAPI + "/health"
	}
	if r.APIURL == "" && strings.HasSuffix(r.HealthURL, "/health") {
		r.APIURL = strings.TrimSuffix(r.HealthURL, "/health")
	}
	if r.ComposeFile == "" {
		r.ComposeFile = findCompose(filepath.Dir(filepath.Dir(filepath.Dir(r.DB))))
	}
}

// answers reports whether an address answers well within two seconds.
func answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

var composeNames = []string{"docker-compose.yml", "docker-compose.yaml", "compose.yml", "compose.yaml"}

// findCompose returns the one compose file below root that speaks of AtoCore; ""
// where there is none, or where it would be a guess between several.
func findCompose(root string) string {
	var found []string
	_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir
		}
		depth := strings.Count(strings.TrimPrefix(path, root), "/")
		switch name := entry.Name(); {
		case entry.IsDir() && (depth > 5 || slices.Contains([]string{"data", "backups", "node_modules", ".git"}, name)):
			return fs.SkipDir
		case slices.Contains(composeNames, name):
			text, err := os.ReadFile(path)
			if err == nil && len(text) < 1<<20 && strings.Contains(strings.ToLower(string(text)), "atocore") {
				found = append(found, path)
			}
		}
		return nil
	})
	if len(found) != 1 {
		return ""
	}
	return found[0]
}
