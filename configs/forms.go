package configs

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// maxUnixPath is what fits into sockaddr_un with its final NUL (unix(7)).
const maxUnixPath = 107

// The forms below check one text each. Their errors say what is wrong and what
// to write, and never repeat the text: any of them may be a secret that was
// pasted under the wrong key.

// checkListen checks host:port and unix:/path.
func checkListen(s string) error {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		switch {
		case path == "":
			return errors.New("no path after unix: write unix:/run/relay.sock")
		case len(path) > maxUnixPath:
			return errors.New("the path of the socket is too long: at most 107 bytes")
		}
		return nil
	}
	return checkHostPort(s, true)
}

// checkHostPort checks host:port; an empty host and port 0 are for listeners only.
func checkHostPort(s string, listener bool) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New("not an address: write host:port, such as 127.0.0.1:8080 or [::1]:8080")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 && !listener {
		return errors.New("not a port: write a number from 1 to 65535 after the last colon")
	}
	if host == "" && listener {
		return nil
	}
	return checkHost(host)
}

// checkHost checks an IP address or a DNS name in ASCII.
func checkHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if host == "" || len(host) > 253 {
		return errors.New("no host, or one that is too long: write a name or an address")
	}
	for _, c := range []byte(host) {
		if !isAlphanumeric(c) && c != '-' && c != '.' && c != '_' {
			return errors.New("not a host: write a name (letters, digits, dots, hyphens; punycode for others) or an address")
		}
	}
	return nil
}

// isLocal reports whether only this machine reaches a listener.
func isLocal(listen string) bool {
	if strings.HasPrefix(listen, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// checkProxyURL checks http://host[:port].
func checkProxyURL(s string) error {
	u, err := checkURL(s)
	if err != nil {
		return err
	}
	if u.Scheme != "http" {
		return errors.New("a proxy that is reached by TLS is not built: write http://host:port; what goes through it is encrypted where base_url is https://")
	}
	if u.Path != "" && u.Path != "/" || strings.Contains(s, "?") {
		return errors.New("a path or query in the URL of a proxy: write http://host:port")
	}
	return nil
}

func checkURL(s string) (*url.URL, error) {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '\\' || c == '"' {
			return nil, errors.New("a character that no URL holds (a space, a backslash, a quote, or one that is not ASCII): remove or encode it")
		}
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("not a URL: write https://host/path")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("the URL does not begin with http:// or https://: write http://host/path, or https:// where it speaks TLS")
	case u.User != nil:
		return nil, errors.New("a name or password in the URL: remove it; credentials have their own key")
	case strings.Contains(s, "#"):
		return nil, errors.New("a fragment in the URL: remove the # and what follows")
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return nil, errors.New("not a port: write a number from 1 to 65535 after the host")
		}
	}
	return u, checkHost(u.Hostname())
}

// isName reports whether s is [A-Za-z0-9._-]{1,64}.
func isName(s string) bool {
	for _, c := range []byte(s) {
		if !isAlphanumeric(c) && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// isToken reports whether s is a header field's name (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if !isAlphanumeric(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}
