package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// maxToken bounds what is read of a token file that is none.
const maxToken = 4 << 10

// checkToken accepts the one Authorization header that shows the token.
func (s *Server) checkToken(w http.ResponseWriter, shown []string) error {
	file := s.tokenFile()
	if file == "" {
		return refuse(http.StatusForbidden, "refused: a token was sent, and no http.token_file is configured")
	}
	want, err := readToken(file)
	if err != nil {
		return fmt.Errorf("http.token_file: %w", err)
	}
	scheme, got, _ := strings.Cut(shown[0], " ")
	if len(shown) != 1 || !strings.EqualFold(scheme, "Bearer") || !sameToken(strings.TrimSpace(got), want) {
		askForToken(w, `, error="invalid_token"`)
		return refuse(http.StatusUnauthorized, "the token is not that of http.token_file")
	}
	return nil
}

func askForToken(w http.ResponseWriter, more string) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="atobackupd"`+more)
}

// readToken reads the file anew each time, so that a changed token counts from
// the next request on.
func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	switch {
	case token == "":
		return "", errors.New(path + " is empty")
	case len(data) > maxToken:
		return "", fmt.Errorf("%s has more than %d bytes: it holds no token", path, maxToken)
	}
	return token, nil
}

// sameToken takes the same time wherever the two differ, and however long they
// are.
func sameToken(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
