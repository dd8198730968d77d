package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
)

// errClosed is what a Remote says after Close.
var errClosed = errors.New("the connection was closed here")

// local is an error that arose here: the source's, or a check that failed.
type local struct{ error }

func (l local) Unwrap() error { return l.error }

// check refuses, before any request, what cannot be done.
func (r *Remote) check(ctx context.Context, op string, names ...string) error {
	for _, name := range names {
		whole := op == "list" || op == "stat"
		if !offsite.ValidName(name) || name == "." && !whole {
			return &failure.Error{
				Op: op, Subject: r.subject(""), Err: &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid},
			}
		}
	}
	if r.closed.Load() {
		return &failure.Error{Op: op, Subject: r.subject(""), Err: errClosed}
	}
	if err := ctx.Err(); err != nil {
		return r.explain(op, strings.Join(names, " to "), local{err})
	}
	return nil
}

// subject names an object as people write it.
func (r *Remote) subject(name string) string {
	return "s3://" + path.Join(r.cfg.Bucket, r.cfg.Prefix, name)
}

// explain turns err into what an operator and a program can act on. nil stays
// nil.
func (r *Remote) explain(op, name string, err error) error {
	if err == nil {
		return nil
	}
	e := &failure.Error{Op: op, Subject: r.subject(name), Err: err}
	var known *failure.Error
	var answer minio.ErrorResponse
	switch {
	case errors.Is(err, context.Canceled):
		e.Kind = failure.Interrupted
	case errors.Is(err, context.DeadlineExceeded):
		e.Kind, e.Err = failure.Unreachable, fmt.Errorf("its time was up: %w", context.DeadlineExceeded)
	case errors.As(err, &known):
	case r.closed.Load():
		e.Err = errClosed
	case errors.Is(err, fs.ErrNotExist):
		e.Kind, e.Err = failure.NotFound, fs.ErrNotExist
	case errors.Is(err, fs.ErrExist):
		e.Err = fs.ErrExist
	case errors.Is(err, offsite.ErrLocked):
		e.Kind = failure.Refused
	case errors.As(err, new(local)):
	case errors.As(err, &answer) && answer.Code != "":
		r.explainAnswer(e, answer)
	default:
		explainConnection(e, err)
	}
	return e
}

// explainAnswer is about what the service itself said.
func (r *Remote) explainAnswer(e *failure.Error, answer minio.ErrorResponse) {
	e.Err = said(answer)
	bucketsRegion := answer.Region
	if bucketsRegion == r.cfg.Region {
		bucketsRegion = ""
	}
	switch code := answer.Code; {
	case code == "NoSuchBucket":
		e.Hint = "make the bucket " + r.cfg.Bucket + " with versioning and Object Lock, or mend bucket and endpoint"
	case code == "RequestTimeTooSkewed":
		e.Hint = "the clocks here and there differ by more than 15 minutes: look at timedatectl here"
	case code == "AuthorizationHeaderMalformed", code == "PermanentRedirect", code == "InvalidRegion",
		code == "IllegalLocationConstraintException", answer.StatusCode == http.StatusMovedPermanently:
		e.Hint = "set region to the bucket's, in a URL with ?region="
		if bucketsRegion != "" {
			e.Hint = fmt.Sprintf("set region = %q, in a URL ?region=%s", bucketsRegion, bucketsRegion)
		}
	case isFull(answer):
		e.Kind, e.Hint = failure.NoSpace, "raise the quota, free some space there, or prune the vault"
	case code == "InvalidAccessKeyId", code == "SignatureDoesNotMatch", code == "InvalidToken",
		code == "ExpiredToken", code == "AuthFailure":
		e.Kind, e.Hint = failure.Auth, "put the key of this bucket into credentials_file "+
			"(a region that is not the bucket's can look the same)"
	case code == "AccessDenied", code == "AllAccessDisabled", answer.StatusCode == http.StatusForbidden:
		e.Kind, e.Hint = failure.Auth, "let the key do what docs/s3.md lists on this bucket and prefix"
	case isBusy(answer):
		e.Kind = failure.Unreachable
	case wantsTLS(answer):
		e.Hint = "write https:// in the endpoint"
	case code == "MethodNotAllowed", code == "NotImplemented":
		e.Hint = "the service lacks this; run atobackupd target test"
	}
}

// said is the service's answer in one line, without its request ids.
func said(answer minio.ErrorResponse) error {
	if answer.Message == "" || answer.Message == answer.Code {
		return errors.New(answer.Code)
	}
	return fmt.Errorf("%s (%s)", strings.TrimSuffix(answer.Message, "."), answer.Code)
}

// denied reports whether the service refuses the key what was asked.
func denied(err error) bool {
	var answer minio.ErrorResponse
	return errors.As(err, &answer) && !isFull(answer) &&
		(answer.Code == "AccessDenied" || answer.Code == "AllAccessDisabled")
}

// isFull reports whether an answer means that there is no room.
func isFull(answer minio.ErrorResponse) bool {
	switch answer.Code {
	case "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull", "StorageFull", "InsufficientStorage",
		"InsufficientCapacity", "ServiceQuotaExceededException", "cap_exceeded", "storage_cap_exceeded", "NoSpaceLeft":
		return true
	}
	message := strings.ToLower(answer.Message)
	return answer.StatusCode == http.StatusInsufficientStorage || strings.Contains(message, "quota exceeded") ||
		strings.Contains(message, "cap exceeded") || strings.Contains(message, "no space left on device")
}

// wantsTLS reports whether a port answers that it speaks TLS, in Go's words or nginx'.
func wantsTLS(answer minio.ErrorResponse) bool {
	message := strings.ToLower(answer.Message)
	return strings.Contains(message, "http request") && strings.Contains(message, "https")
}

// isBusy reports whether waiting may help.
func isBusy(answer minio.ErrorResponse) bool {
	switch answer.Code {
	case "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "OperationAborted", "BadGateway",
		"TooManyRequests":
		return true
	}
	return answer.StatusCode >= 500 && answer.StatusCode != http.StatusNotImplemented ||
		answer.StatusCode == http.StatusTooManyRequests
}

// explainConnection is about what came from the connection, not through it.
func explainConnection(e *failure.Error, err error) {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &authority):
		e.Hint = "no authority that this machine trusts has signed the service's certificate: " +
			"add its CA to the system's store"
	case errors.As(err, &name):
		e.Hint = "the certificate is another name's: mend the endpoint, or somebody is in between"
	case errors.As(err, &invalid), errors.As(err, &certificate):
		e.Hint = "renew the service's certificate; look at the clock here, too"
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		e.Hint = "the port speaks no TLS: mend the endpoint's port, or write http:// on a network of your own"
	default:
		e.Kind = failure.Unreachable
	}
}

// code is the service's word for what went wrong, or "".
func code(err error) string {
	var answer minio.ErrorResponse
	errors.As(err, &answer)
	return answer.Code
}

// missing reports whether the service says that there is no such object or
// version. A bucket that is missing is something else.
func missing(err error) bool {
	switch code(err) {
	case "NoSuchKey", "NoSuchVersion", "NotFound":
		return true
	}
	return false
}
