// Package sdk holds what the official clients are put through with a relay
// between them and the provider: openai, @anthropic-ai/sdk and Vercel's ai, as
// their vendors publish them, on the Node that they ask for.
//
// The package is its test. Each *.test.mjs file is run by Node once for every
// stream carrier, against a relay in the test's own process; relay.mjs tells
// the provider behind it, byte for byte, what to answer, and asks it what it
// was sent and the relay how it recorded the exchange. The clients' and Node's
// versions are pinned in package.json and its lock, and are installed once into
// the user's cache folder, not into the source tree; npm is all that must be
// there. Without npm, or without a registry on the first run, the test is
// skipped and says so, unless REQUIRE_SERVERS=1 asks for a failure.
package sdk
