package config

import "net/http"

func (v *validation) restore() {
	r := v.c.Restore
	v.command("restore.stop_command", r.StopCommand)
	v.command("restore.start_command", r.StartCommand)
	v.positive("restore.health_timeout", r.HealthTimeout)
	for i, check := range r.Checks {
		v.restoreCheck(check, element("restore.checks", i))
	}
}

func (v *validation) restoreCheck(check Check, key string) {
	switch {
	case check.URL == "" && check.SQL == "":
		v.add(key, "set one of them", "restore.checks: a check needs url or sql")
		return
	case check.URL != "" && check.SQL != "":
		v.add(key+".sql", "make two checks of it", "restore.checks: a check has either url or sql, not both")
		return
	case check.SQL != "":
		v.sqlOnly(check, key)
		return
	}
	v.url(key+".url", check.URL)
	v.enum(key+".method", check.Method, http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut)
	if check.Status < 100 || check.Status > 599 {
		v.add(key+".status", "200 is what a healthy answer has", "restore.checks.status = %d: no HTTP status",
			check.Status)
	}
	if check.Body != "" && (check.Method == http.MethodGet || check.Method == http.MethodHead) {
		v.add(key+".body", `set method = "POST"`, "restore.checks.body is not sent with method = %q", check.Method)
	}
	if check.JSON != "" && check.Method == http.MethodHead {
		v.add(key+".json", `set method = "GET"`, `restore.checks.json: the answer to method = "HEAD" has no body`)
	}
	if check.Min != nil && check.JSON == "" {
		v.add(key+".min", `name the value, e.g. json = "documents"`, "restore.checks.min needs json")
	}
}

func (v *validation) sqlOnly(check Check, key string) {
	foreign := []struct {
		name string
		set  bool
	}{
		{"method", check.Method != ""},
		{"body", check.Body != ""},
		{"status", check.Status != 0},
		{"json", check.JSON != ""},
		{"min", check.Min != nil},
	}
	for _, f := range foreign {
		if f.set {
			hint := "remove it, or ask a url"
			if f.name == "min" {
				hint = `compare in the query, e.g. sql = "select count(*) >= 1 from memories"`
			}
			v.add(key+"."+f.name, hint, "restore.checks.%s needs url: a check by sql must return true", f.name)
		}
	}
}
