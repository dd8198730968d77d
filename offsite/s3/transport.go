package s3

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// connections is the number of requests that may be under way at once.
const connections = 32

// newTransport makes connections that end when the other side falls silent: a
// machine that sleeps never sends a reset.
func newTransport(c Config) *http.Transport {
	dialer := &net.Dialer{Timeout: c.DialTimeout, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &quietConn{Conn: conn, timeout: c.OpTimeout}, nil
		},
		TLSHandshakeTimeout: c.DialTimeout,
		MaxIdleConnsPerHost: connections,
		MaxConnsPerHost:     connections,
		IdleConnTimeout:     min(c.OpTimeout, time.Minute),
		DisableCompression:  true, // the bytes as they are
	}
}

// quietConn fails once nothing has moved on it, either way, for timeout.
type quietConn struct {
	net.Conn
	timeout time.Duration
}

func (c *quietConn) Read(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *quietConn) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// maxAnswer bounds what an answer that is not an object may hold. A page of a
// thousand names has about one megabyte.
const maxAnswer = 16 << 20

// boundedTransport keeps a hostile service from filling the memory: an XML
// answer without end is cut. It also reads the service's clock.
type boundedTransport struct {
	http.RoundTripper
	ahead *atomic.Int64 // how much the service's clock is ahead of ours, in nanoseconds
}

func (t boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	countAttempt(req)
	resp, err := t.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		t.ahead.Store(int64(time.Until(date)))
	}
	query := req.URL.RawQuery
	object := req.Method == http.MethodGet && (query == "" || strings.HasPrefix(query, "versionId="))
	if !object || resp.StatusCode != http.StatusOK {
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxAnswer}
	}
	return resp, nil
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("the service's answer has more than %d bytes", maxAnswer)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
