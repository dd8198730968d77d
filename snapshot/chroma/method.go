package chroma

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// Method is a way to copy a Chroma directory, by its name in the configuration.
type Method string

// The methods. Copy knows all but MethodAPI, by which AtoCore makes the copy.
const (
	MethodLive   Method = "live"   // beside a running Chroma; needs nothing of it
	MethodAPI    Method = "api"    // by AtoCore, asked through its API
	MethodFreeze Method = "freeze" // while a command holds the service
	MethodBtrfs  Method = "btrfs"  // from a read-only snapshot of its subvolume
	MethodCold   Method = "cold"   // the service is known to be stopped
)

// Methods are all there are; Fallbacks are those that stand in for MethodAPI.
var (
	Methods   = []Method{MethodLive, MethodAPI, MethodFreeze, MethodBtrfs, MethodCold}
	Fallbacks = []Method{MethodLive, MethodFreeze, MethodBtrfs}
)

// ParseMethod returns the method of that name; "" is MethodLive.
func ParseMethod(name string) (Method, error) {
	if name == "" {
		return MethodLive, nil
	}
	if m := Method(name); slices.Contains(Methods, m) {
		return m, nil
	}
	return "", &failure.Error{Op: "backup", Subject: "chroma", Kind: failure.Config,
		Err: fmt.Errorf("there is no way to copy it called %q", name), Hint: `set backup.chroma_method to "live"`}
}

// Names returns methods as the configuration names them.
func Names(methods []Method) (names []string) {
	for _, m := range methods {
		names = append(names, string(m))
	}
	return names
}

// Copy copies the live Chroma directory src to dst, which must not exist, by the
// method that o names. See CopyLive, CopyFrozen, CopyBtrfs and CopyCold for what
// each promises.
func Copy(ctx context.Context, src *tree.Dir, dst string, o Options) (Copied, error) {
	method, err := ParseMethod(string(o.Method))
	if err != nil {
		return Copied{}, err
	}
	switch method {
	case MethodLive:
		return CopyLive(ctx, src, dst, o)
	case MethodFreeze:
		return CopyFrozen(ctx, src, dst, o.Freeze, o)
	case MethodBtrfs:
		return CopyBtrfs(ctx, src, dst, o.Scratch, o)
	case MethodCold:
		return CopyCold(ctx, src, dst, o)
	}
	return Copied{}, &failure.Error{Op: "backup", Subject: "chroma", Kind: failure.Config,
		Err:  fmt.Errorf("the method %q is AtoCore's, not one to copy by", method),
		Hint: "use one of " + strings.Join(Names(Fallbacks), ", ")}
}
