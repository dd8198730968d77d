package web

import (
	"fmt"
	"net/http"

	"github.com/atocore/atobackupd/internal/health"
)

// levelColours are those of badge and icon, which have no style sheet.
var levelColours = map[string]string{
	health.LevelOK: "#1f7a4d", health.LevelWarning: "#9a6700", health.LevelCritical: "#b3261e",
	health.LevelUnknown: "#5b6570",
}

// levelSigns are drawn inside the shield: not by colour alone.
var levelSigns = map[string]string{
	health.LevelOK: "m5 8 2.2 2.2L11 6.2", health.LevelWarning: "M8 4.8v4M8 11v.2",
	health.LevelCritical: "m5.8 5.8 4.4 4.4m0-4.4-4.4 4.4", health.LevelUnknown: "M5.5 8h5",
}

// badge is GET /badge.svg: the level in a word, for a page of somebody's own.
func (s *Server) badge(w http.ResponseWriter, r *http.Request) error {
	state, err := s.look(r.Context())
	if err != nil {
		return err
	}
	word := levelTitle(state.Status.Level)
	const label, height = 56, 20
	width := label + 12 + 7*len(word)
	w.Header().Set("Content-Type", "image/svg+xml")
	_, _ = fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" role="img" `+
		`aria-label="backups: %[3]s"><title>backups: %[3]s</title>`+
		`<path fill="#3d444d" d="M0 0h%[4]dv%[2]dH0z"/><path fill="%[5]s" d="M%[4]d 0h%[6]dv%[2]dH%[4]dz"/>`+
		`<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">`+
		`<text x="%[7]d" y="14">backups</text><text x="%[8]d" y="14">%[3]s</text></g></svg>`+"\n",
		width, height, word, label, levelColour(state.Status.Level), width-label, label/2, (width+label)/2)
	return nil
}

// icon is GET /icon/{level}: the shield of the page that a browser shows in a
// tab, which must not stay green.
func icon(w http.ResponseWriter, r *http.Request) error {
	level := r.PathValue("level")
	sign, ok := levelSigns[level]
	if !ok {
		return notFound(w, r)
	}
	w.Header().Set("Content-Type", "image/svg+xml")
	_, _ = fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">`+
		`<path fill="%s" d="M8 1 14 3.4v4.2c0 3.6-2.5 6.2-6 7.4-3.5-1.2-6-3.8-6-7.4V3.4z"/>`+
		`<path fill="none" stroke="#fff" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round" `+
		`d="%s"/></svg>`+"\n",
		levelColour(level), sign)
	return nil
}

func levelColour(level string) string {
	if colour, ok := levelColours[level]; ok {
		return colour
	}
	return levelColours[health.LevelUnknown]
}
