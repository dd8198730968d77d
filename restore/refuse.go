package restore

import (
	"github.com/atocore/atobackupd/internal/failure"
)

// refusal is the one shape of "nothing was touched, because".
func refusal(stamp string, kind failure.Kind, why error, hint string) *failure.Error {
	return &failure.Error{Op: "restore refused", Subject: stamp, Kind: kind, Err: why, Hint: hint}
}

func (r *Request) refuse(why error, hint string) *failure.Error {
	return refusal(string(r.Stamp), failure.Refused, why, hint)
}
