package chroma

import (
	"fmt"
	"path"
	"time"

	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// The order in which Chroma persists a segment is what tells a persist that is
// under way: header.bin, data_level0.bin, length.bin and link_lists.bin in
// place, and index_metadata.pickle last. A pickle older than one of the others,
// or not there yet, means that the four are new and the pickle is not.

// staleAfter is how long a segment whose pickle is too old must have been at
// rest to be taken for one that will stay so: its persist was cut short, or the
// directory was copied without its times. Waiting longer would not help, and
// what such a segment is worth the validator says.
const staleAfter = 30 * time.Second

// timeGrain is more than the coarsest step of a file's times. Of a file that
// was written less than this ago, the next write may not show.
const timeGrain = 20 * time.Millisecond

// PersistUnderWay reports whether Chroma is, by the times of its files, in the
// middle of writing a segment in dir, and which. A copy that is made then is
// worthless. Files that were at rest for half a minute do not count.
func PersistUnderWay(dir *tree.Dir) (underWay bool, why string, err error) {
	entries, err := Walk(dir)
	if err != nil {
		return false, "", err
	}
	why, _ = persistRunning(entries, time.Now())
	return why != "", why, nil
}

// persistRunning looks for segments whose pickle is older than their other files:
// under way is the first that is being written at now, atRest the first that is
// not written any more.
func persistRunning(entries []Entry, now time.Time) (underWay, atRest string) {
	for _, s := range segmentTimes(entries) {
		if s.newest.Path == "" || !s.newest.MTime.After(s.pickle.MTime) {
			continue
		}
		what := fmt.Sprintf("%s is newer than %s", s.newest.Path, pickleName)
		if s.pickle.Path == "" {
			what = fmt.Sprintf("%s has no %s yet", path.Dir(s.newest.Path), pickleName)
		}
		if now.Sub(s.newest.MTime) < staleAfter {
			if underWay == "" {
				underWay = what
			}
		} else if atRest == "" {
			atRest = what
		}
	}
	return underWay, atRest
}

// segmentTime is one segment's pickle and the newest of its other files.
type segmentTime struct{ pickle, newest Entry }

func segmentTimes(entries []Entry) []segmentTime {
	var all []segmentTime
	index := map[string]int{}
	for _, e := range entries {
		name := path.Base(e.Path)
		pickle := name == pickleName
		if e.Type != TypeFile ||
			!pickle && name != headerName && name != level0Name && name != lengthName && name != linksName {
			continue
		}
		i, ok := index[path.Dir(e.Path)]
		if !ok {
			i, all = len(all), append(all, segmentTime{})
			index[path.Dir(e.Path)] = i
		}
		if pickle {
			all[i].pickle = e
		} else if all[i].newest.Path == "" || e.MTime.After(all[i].newest.MTime) {
			all[i].newest = e
		}
	}
	return all
}

// justWritten names a file that was written so shortly before now that another
// write might leave its time as it is. Times in the future say nothing.
func justWritten(entries []Entry, now time.Time) string {
	for _, e := range entries {
		if age := now.Sub(e.MTime); e.Type == TypeFile && age >= 0 && age < timeGrain {
			return e.Path + " was just written"
		}
	}
	return ""
}
