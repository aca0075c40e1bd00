// Package h1 is HTTP/1.1 as the relay speaks it with both sides, without any
// I/O: the strict reading of a request's head as it stood on the wire, the
// head of an upstream's answer, and the chunked transfer coding in both
// directions.
//
// Everything here takes bytes and keeps no reference to them beyond what its
// results say. Input may stop at any byte. What RFC 9112 leaves open to be
// read in two ways is refused, since the other side may read it the other way.
package h1
