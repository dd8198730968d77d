package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
)

//go:embed assets
var assetFiles embed.FS

// asset is one file that pages link to.
type asset struct {
	body        []byte
	contentType string
	etag        string
}

var assets = loadAssets()

func loadAssets() map[string]asset {
	types := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
		".svg": "image/svg+xml"}
	list, err := assetFiles.ReadDir("assets")
	if err != nil {
		panic(err) // the program was built wrong
	}
	loaded := make(map[string]asset)
	for _, file := range list {
		body, err := assetFiles.ReadFile("assets/" + file.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(body)
		loaded[file.Name()] = asset{body, types[path.Ext(file.Name())], `"` + hex.EncodeToString(sum[:8]) + `"`}
	}
	return loaded
}

// serveAsset is GET /assets/{name}. Browsers keep it, and ask each time whether
// it is still the same: after an upgrade the page must not wear old styles.
func serveAsset(w http.ResponseWriter, r *http.Request) error {
	a, ok := assets[r.PathValue("name")]
	if !ok {
		return notFound(w, r)
	}
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", a.etag)
	if r.Header.Get("If-None-Match") == a.etag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.Header().Set("Content-Type", a.contentType)
	_, _ = w.Write(a.body)
	return nil
}
