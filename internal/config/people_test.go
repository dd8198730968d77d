package config

import "testing"

// A recipient is a public key, and nothing secret is ever shown.
func TestNoRecipients(t *testing.T) {
	refuse(t, []refusal{
		{minimal, `encryption.recipients = ["age1pq1a", "age1b"]`,
			`3:1: encryption.recipients: post-quantum and classic recipients cannot be mixed: use "age1pq1…" ` +
				"keys only, or none of them"},
		{minimal, `encryption.recipients = ["ssh-ed25519 A", "age1pq1a"]`,
			`3:1: encryption.recipients: post-quantum and classic recipients cannot be mixed: use "age1pq1…" ` +
				"keys only, or none of them"},
		{minimal, `encryption.recipients = ["AGE-SECRET-KEY-1HUNTER2"]`,
			"3:26: encryption.recipients: entry 1 is a secret key (not shown): this machine must not be able " +
				"to read what it ships: remove it from this machine and put its public key here; age-keygen -y " +
				"gives it"},
		{minimal, `encryption.recipients = ["age1a", "AGE-SECRET-KEY-PQ-1HUNTER2"]`,
			"3:35: encryption.recipients: entry 2 is a secret key (not shown): this machine must not be able " +
				"to read what it ships: remove it from this machine and put its public key here; age-keygen -y " +
				"gives it"},
		{minimal, `encryption.recipients = ["-----BEGIN OPENSSH PRIVATE KEY-----"]`,
			"3:26: encryption.recipients: entry 1 is a secret key (not shown): this machine must not be able " +
				"to read what it ships: remove it from this machine and put its public key here; age-keygen -y " +
				"gives it"},
		{minimal, `encryption.recipients = ["age-plugin-yubikey-1hunter2"]`,
			"3:26: encryption.recipients: entry 1 is a secret key (not shown): this machine must not be able " +
				"to read what it ships: remove it from this machine and put its public key here; age-keygen -y " +
				"gives it"},
		{minimal, `encryption.recipients = [""]`,
			`3:26: encryption.recipients: "" is no public key: write "age1…", "age1pq1…", "ssh-ed25519 ` +
				`…" or "ssh-rsa …"`},
		{minimal, `encryption.recipients = ["AGE1ABC"]`,
			`3:26: encryption.recipients: "AGE1ABC" is no public key: write "age1…", "age1pq1…", ` +
				`"ssh-ed25519 …" or "ssh-rsa …"`},
		{minimal, `encryption.recipients = ["me@example.net"]`,
			`3:26: encryption.recipients: "me@example.net" is no public key: write "age1…", "age1pq1…", ` +
				`"ssh-ed25519 …" or "ssh-rsa …"`},
		{minimal, `encryption.recipients = ["x", "y"]`,
			`3:26: encryption.recipients: "x" is no public key: write "age1…", "age1pq1…", "ssh-ed25519 ` +
				"…\" or \"ssh-rsa …\"\n" +
				`3:31: encryption.recipients: "y" is no public key: write "age1…", "age1pq1…", "ssh-ed25519 ` +
				`…" or "ssh-rsa …"`},
	})
}

// Addresses of people and heartbeats hold secrets: they are numbered, not shown.
func TestAddresses(t *testing.T) {
	refuse(t, []refusal{
		{minimal, `notify.urls = ["ntfy.sh/hunter2"]`,
			"3:16: notify.urls: address 1 is no URL (it is not shown because it may hold a secret): write a " +
				`shoutrrr address such as "ntfy://ntfy.sh/topic"`},
		{minimal, `notify.urls = ["://hunter2"]`,
			"3:16: notify.urls: address 1 is no URL (it is not shown because it may hold a secret): write a " +
				`shoutrrr address such as "ntfy://ntfy.sh/topic"`},
		{minimal, `notify.urls = ["ntfy://"]`,
			"3:16: notify.urls: address 1 is no URL (it is not shown because it may hold a secret): write a " +
				`shoutrrr address such as "ntfy://ntfy.sh/topic"`},
		{minimal, `notify.urls = ["ntfy://ok/x", "hunter2"]`,
			"3:31: notify.urls: address 2 is no URL (it is not shown because it may hold a secret): write a " +
				`shoutrrr address such as "ntfy://ntfy.sh/topic"`},
		{minimal, `notify.heartbeats = {snapshot = "hunter2"}`,
			"3:33: notify.heartbeats.snapshot: not an http or https address (it is not shown because it may " +
				`hold a secret): write one such as "https://hc-ping.com/…"`},
		{minimal, `notify.heartbeats = {full = "ntfy://h/hunter2"}`,
			"3:29: notify.heartbeats.full: not an http or https address (it is not shown because it may hold a " +
				`secret): write one such as "https://hc-ping.com/…"`},
		{minimal, `notify.heartbeats = {"offsite:laptop" = "https://h/x"}`,
			`3:41: notify.heartbeats: there is no leg "offsite:laptop": the legs are snapshot, full, prune, ` +
				"scrub, drill, live-drill"},
		{minimal, `notify.heartbeats = {"live_drill" = "https://h/x"}`,
			`3:37: notify.heartbeats: there is no leg "live_drill": the legs are snapshot, full, prune, scrub, ` +
				`drill, live-drill: did you mean "live-drill"?`},
		{minimal, `notify.heartbeats = {offsite = "https://h/x"}`,
			`3:32: notify.heartbeats: there is no leg "offsite": the legs are snapshot, full, prune, scrub, ` +
				"drill, live-drill"},
		{minimal, `notify.heartbeats = {Full = "hunter2"}`,
			"3:29: notify.heartbeats.Full: not an http or https address (it is not shown because it may hold a " +
				"secret): write one such as \"https://hc-ping.com/…\"\n" +
				`3:29: notify.heartbeats: there is no leg "Full": the legs are snapshot, full, prune, scrub, ` +
				`drill, live-drill: did you mean "full"?`},
	})
}

func TestRecipientsAndLegs(t *testing.T) {
	accept(t, []acceptance{
		{minimal, `encryption.recipients = ["age1a", "ssh-ed25519 AAAA", "ssh-rsa AAAA"]`, "encryption.recipients",
			"[age1a ssh-ed25519 AAAA ssh-rsa AAAA]"},
		{minimal, `encryption.recipients = ["age1pq1a", "age1pq1b"]`, "encryption.recipients", "[age1pq1a age1pq1b]"},
		{minimal, "notify.urls = []", "notify.urls", "[]"},
		{minimal, `notify.heartbeats = {"snapshot" = "https://h/x"}`, "notify.heartbeats", "map[snapshot:https://h/x]"},
		{minimal, `notify.heartbeats = {"full" = "https://h/x"}`, "notify.heartbeats", "map[full:https://h/x]"},
		{minimal, `notify.heartbeats = {"prune" = "https://h/x"}`, "notify.heartbeats", "map[prune:https://h/x]"},
		{minimal, `notify.heartbeats = {"scrub" = "https://h/x"}`, "notify.heartbeats", "map[scrub:https://h/x]"},
		{minimal, `notify.heartbeats = {"drill" = "https://h/x"}`, "notify.heartbeats", "map[drill:https://h/x]"},
		{minimal, `notify.heartbeats = {"live-drill" = "https://h/x"}`, "notify.heartbeats",
			"map[live-drill:https://h/x]"},
	})
}
