package clickhouse

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ClickHouse/ch-go"
)

// Class says what is to be done about a block whose INSERT failed.
type Class int

// The classes.
const (
	ClassNetwork Class = iota // no answer, or none that is understood: the outcome is unknown
	ClassRetry                // the server is busy or out of step: the same block again
	ClassWait                 // the table, a right or the login is missing: an operator must act
	ClassPoison               // this block will never be taken
)

// String names the class as in metrics.
func (c Class) String() string { return [...]string{"network", "retry", "wait", "poison"}[c] }

// Code returns ClickHouse's code of err, 0 where it is no exception.
func Code(err error) int {
	if e, ok := ch.AsException(err); ok {
		return int(e.Code)
	}
	return 0
}

// Classify sorts an error of a connection or a statement by ClickHouse's code
// (src/Common/ErrorCodes.cpp). Any code that is not named is tried again by
// its caller a few times and then taken for poison.
func Classify(err error) (class Class, known bool) {
	code := Code(err)
	var dial *DialError
	if code == 0 && errors.As(err, &dial) {
		switch dial.Kind {
		case KindSilent, KindClosed, KindNetwork, KindNothing:
			return ClassNetwork, true
		}
		return ClassWait, true
	}
	switch code {
	case 0:
		return ClassNetwork, true
	case 3, // UNEXPECTED_END_OF_FILE
		32,   // ATTEMPT_TO_READ_AFTER_EOF
		74,   // CANNOT_READ_FROM_FILE_DESCRIPTOR
		75,   // CANNOT_WRITE_TO_FILE_DESCRIPTOR: its disk is full, most often
		76,   // CANNOT_OPEN_FILE
		159,  // TIMEOUT_EXCEEDED
		160,  // TOO_SLOW
		164,  // READONLY: a replica that is being repaired, most often
		173,  // CANNOT_ALLOCATE_MEMORY
		198,  // DNS_ERROR, of a view's or a Distributed table's server
		202,  // TOO_MANY_SIMULTANEOUS_QUERIES
		203,  // NO_FREE_CONNECTION
		209,  // SOCKET_TIMEOUT
		210,  // NETWORK_ERROR
		225,  // NO_ZOOKEEPER
		236,  // ABORTED: the server is shutting down
		241,  // MEMORY_LIMIT_EXCEEDED
		242,  // TABLE_IS_READ_ONLY
		243,  // NOT_ENOUGH_SPACE
		252,  // TOO_MANY_PARTS
		279,  // ALL_CONNECTION_TRIES_FAILED
		285,  // TOO_FEW_LIVE_REPLICAS
		286,  // UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
		319,  // UNKNOWN_STATUS_OF_INSERT
		394,  // QUERY_WAS_CANCELLED
		425,  // SYSTEM_ERROR
		499,  // S3_ERROR
		745,  // SERVER_OVERLOADED
		999,  // KEEPER_EXCEPTION
		1001: // STD_EXCEPTION: of the system below, such as of a full disk
		return ClassRetry, true
	case 16, // NO_SUCH_COLUMN_IN_TABLE
		47,  // UNKNOWN_IDENTIFIER, of a view: the INSERT itself names only columns that are there
		60,  // UNKNOWN_TABLE
		81,  // UNKNOWN_DATABASE
		192, // UNKNOWN_USER
		193, // WRONG_PASSWORD
		201, // QUOTA_EXCEEDED
		218, // TABLE_IS_DROPPED
		497, // ACCESS_DENIED
		516: // AUTHENTICATION_FAILED
		return ClassWait, true
	case 469: // VIOLATED_CONSTRAINT
		if ofView(err) {
			return ClassWait, true // the log's table takes the block
		}
		return ClassPoison, true
	case 6, // CANNOT_PARSE_TEXT
		27,  // CANNOT_PARSE_INPUT_ASSERTION_FAILED
		33,  // CANNOT_READ_ALL_DATA
		53,  // TYPE_MISMATCH
		70,  // CANNOT_CONVERT_TYPE
		117, // INCORRECT_DATA
		261, // UNKNOWN_BLOCK_INFO_FIELD
		349, // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
		691: // UNKNOWN_ELEMENT_OF_ENUM
		return ClassPoison, true
	}
	return ClassPoison, false
}

// ofView reports whether an exception comes from a view of the table that was
// inserted into, or from what the view writes to. The server says so at the
// message's end; before it there may be values of a row, quoted.
func ofView(err error) bool {
	e, _ := ch.AsException(err)
	return strings.Contains(e.Message[strings.LastIndexByte(e.Message, '\'')+1:], ": while pushing to view ")
}

// Explain turns the exception of a statement on the log's table into the
// *DialError that says what to change; other errors stay as they are.
func (c *Conn) Explain(err error) error {
	e, ok := ch.AsException(err)
	if !ok {
		return err
	}
	say := func(kind Kind, format string, args ...any) error {
		return &DialError{c.address, kind, fmt.Sprintf(format, args...), err}
	}
	switch e.Code {
	case 81:
		return say(KindDatabase, "there is no database %q: run `relay migrate`, or correct clickhouse.database", c.database)
	case 60, 218:
		return say(KindTable, "a table is missing in database %q: run `relay migrate`", c.database)
	case 16:
		return say(KindColumn, "a table in database %q lacks a column: run `relay migrate`", c.database)
	case 497:
		return say(KindLogin, "the user may not do this: %s", firstLine(e.Message))
	}
	return say(KindRefused, "code %d: %s", e.Code, firstLine(e.Message))
}
