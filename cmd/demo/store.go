package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"

	_ "github.com/atocore/atobackupd/snapshot/sqlite" // registers the driver
)

//go:embed chroma.tar.gz
var chromaArchive []byte

const registryText = `{
  "projects": [
    {"id": "p05-interferometer", "status": "active"},
    {"id": "p06-polisher", "status": "active"}
  ]
}
`

func size(bytes int64) string { return humanize.IBytes(uint64(bytes)) }

// makeStore makes what AtoCore has on its disk, and starts a process that goes
// on writing to it.
func (s *story) makeStore(ctx context.Context) error {
	for _, dir := range []string{"live/db", "live/config", "live/chroma", "laptop"} {
		if err := os.MkdirAll(s.path(dir), 0o755); err != nil {
			return err
		}
	}
	if err := makeDatabase(ctx, s.path("live/db/atocore.db")); err != nil {
		return err
	}
	if err := os.WriteFile(s.path("live/config/project-registry.json"), []byte(registryText), 0o644); err != nil {
		return err
	}
	if err := unpack(chromaArchive, s.path("live/chroma")); err != nil {
		return err
	}
	var err error
	if s.writer, err = startWriter(ctx, s.path("live/db/atocore.db")); err != nil {
		return err
	}
	s.onEnd(s.writer.stop)
	info, err := os.Stat(s.path("live/db/atocore.db"))
	if err != nil {
		return err
	}
	s.say("a WAL database of %s, a registry, a Chroma directory;", size(info.Size()))
	s.more("process %d commits to the database all the time", s.writer.pid())
	return nil
}

// openWritable opens a database for the demonstration's own writes.
func openWritable(path string) (*sql.DB, error) {
	return sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)"+
		"&_pragma=synchronous(normal)&_txlock=immediate")
}

func makeDatabase(ctx context.Context, path string) (err error) {
	db, err := openWritable(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, `
		create table source_documents (id integer primary key, path text not null, body text not null);
		create table memories (id integer primary key, content text not null, confidence real not null);
		create table ledger (id integer primary key check (id = 1), memories integer not null);
		insert into ledger values (1, 0);
		with recursive n(i) as (select 1 union all select i + 1 from n where i < 4000)
		insert into source_documents select i, 'vault/note-' || i || '.md',
			'The interferometer of project ' || (i % 7) || ' was aligned: ' || hex(randomblob(400)) from n;`)
	return err
}

// unpack lays out the one directory of a small archive of our own.
func unpack(archive []byte, dest string) error {
	zr, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dest)
	if err != nil {
		return err
	}
	defer root.Close()
	for tr := tar.NewReader(zr); ; {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		_, name, _ := strings.Cut(header.Name, "/")
		if name == "" {
			continue
		}
		if header.Typeflag == tar.TypeDir {
			err = root.MkdirAll(filepath.Clean(name), 0o755)
		} else {
			err = unpackFile(root, name, tr, header)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

func unpackFile(root *os.Root, name string, r io.Reader, header *tar.Header) error {
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		return errors.Join(err, f.Close())
	}
	// Chroma's segment files are judged by the order of their times.
	return errors.Join(f.Close(), root.Chtimes(name, header.ModTime, header.ModTime))
}
