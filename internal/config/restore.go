package config

// Restore says how the service is stopped and started around a restore with
// --manage-service, and what must hold afterwards.
type Restore struct {
	// StopCommand stops the service, as a list of words that no shell reads.
	// Default none.
	StopCommand []string `toml:"stop_command"`

	// StartCommand starts the service again. Default none.
	StartCommand []string `toml:"start_command"`

	// HealthTimeout is how long atocore.health_url may take to answer after the
	// start. Default "60s".
	HealthTimeout Duration `toml:"health_timeout"`

	// Checks are asked of the restored service; one that fails rolls the
	// restore back. Default none.
	Checks []Check `toml:"checks,omitempty"`
}

// Check is one question to the restored service: an HTTP request or a query.
type Check struct {
	// URL is requested. A check has either this or `sql`.
	URL string `toml:"url,omitempty"`

	// Method is the request's: "GET", "HEAD", "POST" or "PUT". Default "GET".
	Method string `toml:"method,omitempty"`

	// Body is sent with the request, as application/json. Default "".
	Body string `toml:"body,omitempty"`

	// Status is the one that the answer must have. Default 200.
	Status int `toml:"status,omitempty"`

	// JSON is the path of a value that the answer, a JSON document, must hold,
	// with dots between its names, e.g. "stats.documents". Default "": the
	// body is not looked at.
	JSON string `toml:"json,omitempty"`

	// Min is the least that the number (or the length of the list) at `json`
	// may be. Default: any value will do.
	Min *float64 `toml:"min,omitempty"`

	// SQL is a query on the restored database that must return true. A check
	// has either this or `url`.
	SQL string `toml:"sql,omitempty"`
}
