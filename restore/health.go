package restore

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// healthWait bounds one look at the health URL.
const healthWait = 3 * time.Second

// client talks to the service on this machine or this network: no proxy, and a
// redirect is an answer like any other.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// listening tells whether anything is there at url. Whatever accepts a
// connection counts, also when it then says nothing: a service that hangs has
// its database open all the same.
func listening(ctx context.Context, url string) bool {
	if url == "" {
		return false
	}
	_, err := get(ctx, url)
	var dial *net.OpError
	return err == nil || !(errors.As(err, &dial) && dial.Op == "dial") && ctx.Err() == nil
}

// get gives the status of a GET.
func get(ctx context.Context, url string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, healthWait)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}
