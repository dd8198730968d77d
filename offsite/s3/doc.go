// Package s3 is an offsite.Remote in a bucket of any S3 service.
//
// A vault's name is a key below the target's prefix. Directories exist while
// something is in them. A put is one request and whole or nothing, so nothing
// ever lies in incoming/ but the probe; there are no multipart uploads, whose
// leftovers cost money and are listed nowhere. A move is a copy on the server
// and a removal.
//
//	config.go       where the bucket is, and the keys
//	transport.go    connections: deadlines, bounds
//	remote.go       Open, Stat, reading
//	list.go         listing, and what lies under a name: versions, markers
//	put.go          Put, and the bytes that wait for their size
//	move.go         Move and Remove
//	lock.go         Object Lock: what is locked, and until when
//	probe.go        what a key can do, tried with one object
//	features.go     what the service lacks, found out once
//	errors.go       what an operator is told
//
// Versions. In a bucket that keeps versions the object under a name is its
// oldest version, because nothing is ever put twice under one name: whoever
// writes over it, or hides it behind a delete marker, changes nothing that is
// read here, and is reported by Tampering. Remove deletes every version by its
// id and never leaves a marker of its own, so each marker is somebody else's.
//
// Never replacing. Where the service has conditional puts (If-None-Match), it
// keeps that promise by itself. Where it has not, names are looked for before
// and after; a bucket with versions then tells who was first. Without either, two
// machines that store one name in the same second could replace each other's;
// names in a vault are random, and one machine never does.
package s3
