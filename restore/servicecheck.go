package restore

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// Check is one question to the restored service: an HTTP request, or a query on
// the restored database that must be true.
type Check struct {
	URL    string
	Method string   // "" is GET
	Body   string   // sent as application/json
	Status int      // that the answer must have; 0 is 200
	JSON   string   // path of a value that the answer must hold, dots between names
	Min    *float64 // the least that the number, or the length of the list, there may be
	SQL    string   // instead of URL
}

// A service may say that it is well a moment before it has loaded everything,
// so a wrong answer is asked for again.
const (
	checkTries = 3
	checkPause = 500 * time.Millisecond
	maxAnswer  = 16 << 20 // bytes of an answer that are read
)

func (c Check) name() string {
	if c.SQL != "" {
		return "check " + strconv.Quote(c.SQL)
	}
	return "check " + failure.PublicURL(c.URL)
}

func (c Check) run(ctx context.Context, db string, owners tree.Owners) error {
	for try := 1; ; try++ {
		err := c.once(ctx, db, owners)
		if err == nil {
			return nil
		}
		if try == checkTries || pause(ctx, checkPause) != nil {
			return fmt.Errorf("%s: %w", c.name(), err)
		}
	}
}

func (c Check) once(ctx context.Context, db string, owners tree.Owners) error {
	if c.SQL != "" {
		yes, err := sqlite.QueryTrue(ctx, db, owners, c.SQL)
		if err == nil && !yes {
			err = fmt.Errorf("it is not true")
		}
		return err
	}
	method := c.Method
	if method == "" {
		method = http.MethodGet
	}
	status, body, err := exchange(ctx, method, c.URL, c.Body)
	if err != nil {
		return err
	}
	want := c.Status
	if want == 0 {
		want = http.StatusOK
	}
	if status != want {
		return fmt.Errorf("status %d, not %d", status, want)
	}
	if c.JSON == "" {
		return nil
	}
	return c.checkJSON(body)
}

// exchange makes one request and reads the answer.
func exchange(ctx context.Context, method, url, body string) (status int, answer []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, failure.WithoutURL(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, failure.WithoutURL(err)
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return response.StatusCode, answer, err
}

func (c Check) checkJSON(body []byte) error {
	var document any
	if err := json.Unmarshal(body, &document); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	value, ok := lookUp(document, c.JSON)
	if !ok {
		return fmt.Errorf("the answer has no %s", c.JSON)
	}
	if c.Min == nil {
		return nil
	}
	number, ok := magnitude(value)
	if !ok {
		return fmt.Errorf("%s is neither a number nor a list", c.JSON)
	}
	if number < *c.Min {
		return fmt.Errorf("%s is %v, less than %v", c.JSON, number, *c.Min)
	}
	return nil
}

// lookUp follows a path of names, and of positions in lists, with dots between.
func lookUp(value any, path string) (any, bool) {
	for name := range strings.SplitSeq(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			found, ok := v[name]
			if !ok {
				return nil, false
			}
			value = found
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(v) {
				return nil, false
			}
			value = v[i]
		default:
			return nil, false
		}
	}
	return value, true
}

func magnitude(value any) (float64, bool) {
	switch v := value.(type) {
	case float64:
		return v, true
	case []any:
		return float64(len(v)), true
	case map[string]any:
		return float64(len(v)), true
	}
	return 0, false
}
