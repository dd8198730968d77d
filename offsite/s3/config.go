package s3

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
)

// Config says where a vault's bucket is. Endpoint and Bucket are required; the
// zero value of everything else is a sensible default.
type Config struct {
	Name string // the target's name, for messages

	Endpoint string // https://HOST[:PORT], or http:// on a network of one's own
	Bucket   string
	Prefix   string // of every key, without slashes around it
	Region   string // default us-east-1

	// CredentialsFile is in AWS' shared format and closed to others. Empty: the
	// environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), else systemd's
	// credential "s3".
	CredentialsFile string

	LockFor        time.Duration // of each object's compliance lock; 0: none
	BandwidthLimit int64         // bytes a second that all Puts together may send; 0: no limit

	DialTimeout time.Duration // from the first packet to a connection; default 10s
	OpTimeout   time.Duration // a connection that is silent for this long while waited for is ended; default 2m

	// ListFor is how long one listing of the whole vault answers for all questions
	// of what is there; 0: each question asks the service.
	ListFor time.Duration

	// StateFile keeps what was found out about the service, and until when
	// objects are locked. Empty: nothing is kept. Losing it costs requests.
	StateFile string
}

func (c Config) withDefaults() (Config, error) {
	for field, value := range map[*time.Duration]time.Duration{
		&c.DialTimeout: 10 * time.Second, &c.OpTimeout: 2 * time.Minute,
	} {
		if *field == 0 {
			*field = value
		}
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	if err := c.check(); err != nil {
		return c, &failure.Error{Op: "s3 target", Subject: c.Name, Kind: failure.Config, Err: err}
	}
	return c, nil
}

func (c Config) check() error {
	u, err := url.Parse(c.Endpoint)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return fmt.Errorf("endpoint %q is not https://HOST", c.Endpoint)
	case u.User != nil:
		return errors.New("the endpoint holds a user or password; keys belong in credentials_file")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf(
			"endpoint %q has a path; the bucket goes into bucket, what is below it into prefix", c.Endpoint,
		)
	case s3utils.CheckValidBucketName(c.Bucket) != nil:
		return fmt.Errorf("%q is no name of a bucket", c.Bucket)
	case c.Prefix != "" && !offsite.ValidName(c.Prefix):
		return fmt.Errorf("prefix %q is not a plain path", c.Prefix)
	case c.BandwidthLimit < 0 || c.LockFor < 0:
		return errors.New("a limit is negative")
	}
	return nil
}

// ParseURL reads s3+https://HOST/BUCKET[/PREFIX][?region=REGION], or s3+http://. Keys
// that somebody wrote into it appear in no error.
func ParseURL(text string) (Config, error) {
	bad := func(why string) (Config, error) {
		return Config{}, &failure.Error{
			Op: "s3 target", Subject: failure.PublicURL(text), Kind: failure.Usage, Err: errors.New(why),
			Hint: "write s3+https://HOST/BUCKET[/PREFIX][?region=REGION]",
		}
	}
	u, err := url.Parse(text)
	if err != nil {
		return bad("it is not a URL")
	}
	scheme, ok := strings.CutPrefix(u.Scheme, "s3+")
	bucket, prefix, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	query := u.Query()
	c := Config{Endpoint: scheme + "://" + u.Host, Bucket: bucket, Prefix: prefix, Region: query.Get("region")}
	query.Del("region")
	switch {
	case u.User != nil:
		return bad("keys do not belong in a URL")
	case !ok:
		return bad("it does not begin with s3+https://")
	case len(query) > 0:
		return bad("it may say ?region=REGION and nothing else")
	}
	if err := c.check(); err != nil {
		return bad(err.Error())
	}
	return c, nil
}

// keys reads the credentials. They appear in no error.
func (c Config) keys() (*credentials.Credentials, error) {
	file, private := c.CredentialsFile, true
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		if file == "" && os.Getenv("AWS_ACCESS_KEY_ID") == "" {
			file = filepath.Join(dir, "s3")
		}
		private = filepath.Dir(file) != filepath.Clean(dir) // systemd's own are closed by other means
	}
	fail := func(err error, hint string) error {
		return &failure.Error{Op: "s3 target", Subject: c.Name, Kind: failure.Config, Err: err, Hint: hint}
	}
	const howTo = "set credentials_file to a file of mode 0600 with aws_access_key_id and aws_secret_access_key"
	if file == "" {
		if os.Getenv("AWS_ACCESS_KEY_ID") == "" || os.Getenv("AWS_SECRET_ACCESS_KEY") == "" {
			return nil, fail(
				errors.New(
					"there are no keys: credentials_file is empty, and so are AWS_ACCESS_KEY_ID and "+
						"AWS_SECRET_ACCESS_KEY",
				),
				howTo,
			)
		}
		return credentials.NewEnvAWS(), nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, fail(fmt.Errorf("credentials_file: %w", err), howTo)
	}
	if private && info.Mode().Perm()&0o077 != 0 {
		return nil, fail(
			fmt.Errorf("credentials_file %s can be read by others (mode %04o)", file, info.Mode().Perm()),
			"chmod 600 "+file,
		)
	}
	keys := credentials.NewFileAWSCredentials(file, os.Getenv("AWS_PROFILE"))
	value, err := keys.GetWithContext(nil)
	if err != nil || value.AccessKeyID == "" || value.SecretAccessKey == "" {
		// The parser's own words might quote the line that holds the secret.
		return nil, fail(fmt.Errorf("credentials_file %s holds no keys", file), howTo)
	}
	return keys, nil
}

// key is the object's key in the bucket.
func (c Config) key(name string) string { return strings.TrimPrefix(path.Join(c.Prefix, name), "./") }
