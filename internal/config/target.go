package config

// Target is one place off this machine that holds a vault.
type Target struct {
	// Name is what commands, legs and state call the target; small letters,
	// digits, "-" and "_". Required.
	Name string `toml:"name"`

	// Type is "sftp" (another machine), "dir" (a mounted disk) or "s3" (a bucket
	// of any S3 service). Default "sftp".
	Type string `toml:"type"`

	// Hosts are names of one machine, e.g. its LAN name and its tailnet name;
	// the first that answers is used. Required for sftp.
	Hosts []string `toml:"hosts,omitempty"`

	// Port is the port of its ssh server. Default 22; under the transport
	// "openssh" 0, which leaves it to ssh_config.
	Port int `toml:"port,omitempty"`

	// User is the account on it. Required for sftp with the transport
	// "builtin"; under "openssh" "" leaves it to ssh_config.
	User string `toml:"user,omitempty"`

	// IdentityFile is the private ssh key. Default "": the keys of the agent at
	// SSH_AUTH_SOCK.
	IdentityFile string `toml:"identity_file,omitempty"`

	// KnownHosts is the file of host keys that are trusted; without the key of
	// the host in it there is no connection. Required for sftp with the
	// transport "builtin"; under "openssh" "" leaves it to ssh_config.
	KnownHosts string `toml:"known_hosts,omitempty"`

	// Transport is "builtin" or "openssh", which runs ssh and so honours
	// ssh_config, jump hosts and hardware keys. Default "builtin".
	Transport string `toml:"transport,omitempty"`

	// Path is the vault's directory there. Required for sftp and dir; s3 has a
	// prefix.
	Path string `toml:"path,omitempty"`

	// ConnectTimeout is how long a server may take to answer before it counts as
	// unreachable. Default "30s"; a dir has none.
	ConnectTimeout Duration `toml:"connect_timeout,omitempty"`

	// Removable says that the disk of a dir is not always there: without it the
	// target is unreachable, like a laptop that sleeps, and once it holds a vault
	// nothing is written onto its bare mount point. Default false.
	Removable bool `toml:"removable,omitempty"`

	// Endpoint is the address of the S3 service, e.g. "https://s3.example.net".
	// Required for s3.
	Endpoint string `toml:"endpoint,omitempty"`

	// Bucket is the bucket of the vault, which must exist. Required for s3.
	Bucket string `toml:"bucket,omitempty"`

	// Prefix is put before the name of each object, so that a bucket can hold
	// more than a vault, e.g. "dalidou". Default "".
	Prefix string `toml:"prefix,omitempty"`

	// Region is the bucket's. Default "us-east-1", which services other than
	// Amazon's take.
	Region string `toml:"region,omitempty"`

	// LockFor is for how long each object is locked against deletion in a
	// bucket that has Object Lock, or "off". Default "30d".
	LockFor Limit `toml:"lock_for,omitempty"`

	// CredentialsFile is a file in the format of AWS' shared credentials, which
	// nobody else may read. Default "": the environment (AWS_ACCESS_KEY_ID,
	// AWS_SECRET_ACCESS_KEY) or a systemd credential.
	CredentialsFile string `toml:"credentials_file,omitempty"`

	// BandwidthLimit is the most that is sent in a second, e.g. "2MiB".
	// Default "": no limit.
	BandwidthLimit Size `toml:"bandwidth_limit"`

	// RetryEvery is how long to wait before a target that did not answer is
	// tried again. Default "15m".
	RetryEvery Duration `toml:"retry_every"`

	// MaxAge is the greatest age of the newest snapshot there before it is an
	// alarm, or "off". Default "8d".
	MaxAge Limit `toml:"max_age"`

	// RebaseRatio bounds the size of patches: when those that a snapshot needs
	// outweigh its base times this, they are consolidated or a new base is
	// sent. Above 0, at most 10. Default 0.5.
	RebaseRatio float64 `toml:"rebase_ratio"`

	// Prune lets this machine delete old snapshots there. Default
	// true; false for an append-only target.
	Prune bool `toml:"prune"`

	// AppendOnly says that the account there may only add files; the other
	// machine then prunes. Default false.
	AppendOnly bool `toml:"append_only"`

	// Retention says where the target keeps more or less than [retention]: each
	// key that is not set here is the same as there.
	Retention Retention `toml:"retention"`
}
