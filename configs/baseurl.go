package configs

import (
	"errors"
	"net/url"
	"strings"
)

// checkBaseURL checks http(s)://host[:port][/path].
func checkBaseURL(s string) error {
	u, err := checkURL(s)
	if err != nil {
		return err
	}
	if strings.Contains(s, "?") {
		return errors.New("a query in the URL: remove the ? and what follows; the client's query is kept")
	}
	for segment := range strings.SplitSeq(u.Path, "/") {
		if segment == "." || segment == ".." {
			return errors.New("a . or .. in the path: write the path out")
		}
	}
	for _, end := range []string{"/chat/completions", "/completions", "/responses", "/messages", "/embeddings"} {
		if strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), end) {
			return errors.New("the path of an endpoint: end it before " + end + ", which comes with each request")
		}
	}
	return nil
}

// roots are where the APIs of known providers begin. Of others nothing is
// guessed: some have theirs at the host itself.
var roots = map[string]string{
	"api.openai.com":                    "/v1",
	"api.anthropic.com":                 "/v1",
	"generativelanguage.googleapis.com": "/v1beta",
	"api.siliconflow.cn":                "/v1",
	"api.siliconflow.com":               "/v1",
	"api.mistral.ai":                    "/v1",
	"api.moonshot.cn":                   "/v1",
	"api.moonshot.ai":                   "/v1",
	"api.together.xyz":                  "/v1",
	"api.x.ai":                          "/v1",
	"api.groq.com":                      "/openai/v1",
	"openrouter.ai":                     "/api/v1",
}

// AsksUsage reports whether the upstream may be asked for a stream's usage by
// stream_options. Mistral refuses that with 422, and names usage unasked.
func (u *Upstream) AsksUsage() bool {
	base, err := url.Parse(u.BaseURL)
	return u.IncludeUsage == "auto" && err == nil && !strings.EqualFold(base.Hostname(), "api.mistral.ai")
}

// doubtBaseURL says what looks wrong about the path of base, which is a
// valid URL: each mistake here is a 404 for every request. "": nothing.
func doubtBaseURL(base string, d Dialect) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	host, path := strings.ToLower(u.Hostname()), strings.TrimRight(u.Path, "/")
	last := path[strings.LastIndexByte(path, '/')+1:]
	root := roots[host]
	switch {
	case root != "" && path == "":
		return "no path: the path stands in place of the client's root (/v1 of OpenAI and Anthropic, /v1beta of Gemini), and here the API begins at " + root + ": add it"
	case strings.Contains(path, "/v1/v1"):
		return "/v1 twice: the path replaces the client's leading /v1, so that one is enough"
	case d == Anthropic && last != "v1":
		return "the path does not end in /v1, which it replaces: Anthropic's requests would go to " + path + "/messages; add /v1"
	case d == Azure && strings.Contains(path+"/", "/deployments/"):
		return "a deployment in the path: it comes with each request (/openai/deployments/NAME/...); end the URL with /openai"
	case d == Azure && (strings.HasSuffix(host, ".openai.azure.com") || strings.HasSuffix(host, ".cognitiveservices.azure.com")) && path != "/openai" && path != "/openai/v1":
		return "not a root of Azure: end the URL with /openai, or with /openai/v1 for clients that speak the OpenAI API"
	}
	return ""
}
