// Package health is the only judge of how things stand. Judge is pure: facts go
// in, a Report comes out, and every mouth (the status command and its exit code,
// the API, the metrics, the dashboard, notifications) shows that Report and
// computes nothing of its own. Whoever gathers the facts does the I/O.
//
//	facts (package app) ──> Judge(facts, now) ──> Report ──┬─> status, exit code, /api/status
//	                                                       ├─> metrics, dashboard
//	                                                       └─> Alarms ──> notifications
//
// Two properties hold for any facts, and a test holds them: a Report is never
// better than the worst evidence in it, and one bad fact more never improves its
// level.
package health
