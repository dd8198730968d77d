package health

// Levels of a leg, a condition and the whole, worst last.
const (
	LevelOK       = "ok"
	LevelWarning  = "warning"
	LevelCritical = "critical"
	LevelUnknown  = "unknown"
)

// Number returns a level as Nagios and the metrics have it; what is not a level
// is unknown.
func Number(level string) int {
	switch level {
	case LevelOK:
		return 0
	case LevelWarning:
		return 1
	case LevelCritical:
		return 2
	}
	return 3
}

// Worse returns the worse of two levels.
func Worse(a, b string) string {
	if Number(b) > Number(a) {
		return b
	}
	return a
}
