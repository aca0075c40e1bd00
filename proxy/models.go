package proxy

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"streamrelay/auth"
	"streamrelay/telemetry"
)

// named lists the models that the routes open to a dialect and tenant name, and
// that the key may use: exact names and aliases, in the routes' order. ok is
// false where no such route names a model, so that only a provider can say.
func (r *routing) named(d dialect, tenant []byte, rec *auth.Record) (names []string, ok bool) {
	add := func(name string) {
		if !strings.Contains(name, "*") && rec.AllowsModel([]byte(name)) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for i := range r.routes {
		rt := &r.routes[i]
		if !rt.open(d, tenant) {
			continue
		}
		for _, model := range rt.models {
			ok = ok || !strings.Contains(model, "*")
			add(model)
		}
		aliases := make([]string, 0, len(rt.rewrite))
		for alias := range rt.rewrite {
			if matchesAny(rt.models, []byte(alias)) {
				aliases = append(aliases, alias)
			}
		}
		slices.Sort(aliases)
		for _, alias := range aliases {
			add(alias)
		}
	}
	return names, ok
}

// listModels answers GET /models and /models/{id} where the routes name models,
// and reports whether it did: no provider knows aliases, nor what the key may
// use.
func (x *exchange) listModels() (bool, *apiError) {
	a := &x.adm
	if endpoints[a.target.endpoint].name != "models" || !x.ctx.IsGet() && !x.ctx.IsHead() {
		return false, nil
	}
	names, ok := x.set.routing.named(a.target.dialect, a.tenant, a.rec)
	if !ok {
		return false, nil
	}
	shape := a.target.dialect
	if a.target.compatible {
		shape = dialectOpenAI
	}
	var answer any
	if id := strings.TrimPrefix(string(a.target.tail), "/"); id == "" {
		answer = modelList(shape, names)
	} else if slices.Contains(names, id) {
		answer = modelObject(shape, id)
	} else if _, err := x.set.routing.choose(a.target.dialect, a.tenant, []byte(id)); err != nil || !a.rec.AllowsModel([]byte(id)) {
		return false, errModelNotFound
	} else {
		return false, nil // a pattern's: the provider knows
	}
	body, err := json.Marshal(answer)
	if err != nil { // texts in structs always marshal
		panic("BUG: marshal the list of models: " + err.Error())
	}
	res := &x.ctx.Response
	res.SetStatusCode(fasthttp.StatusOK)
	res.Header.SetContentType("application/json")
	res.Header.SetBytesV("X-Request-Id", x.requestID)
	res.SetBody(body)
	if x.bodyUnread() {
		res.Header.SetConnectionClose()
		x.c.linger.Store(true)
	}
	x.obs.Status = fasthttp.StatusOK
	x.obs.BytesOut = int64(len(body))
	x.finish(telemetry.Completed, nil)
	return true, nil
}

// The shapes of lists of models: OpenAI's and Azure's, Anthropic's, Gemini's.
type (
	openAIModel struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Created int64  `json:"created"`
		OwnedBy string `json:"owned_by"`
	}
	anthropicModel struct {
		Type        string `json:"type"`
		ID          string `json:"id"`
		DisplayName string `json:"display_name"`
		CreatedAt   string `json:"created_at"`
	}
	geminiModel struct {
		Name        string   `json:"name"`
		DisplayName string   `json:"displayName"`
		Methods     []string `json:"supportedGenerationMethods"`
	}
)

func modelObject(d dialect, name string) any {
	switch d {
	case dialectAnthropic:
		return anthropicModel{"model", name, name, "1970-01-01T00:00:00Z"}
	case dialectGemini:
		return geminiModel{"models/" + name, name, []string{"generateContent", "streamGenerateContent"}}
	}
	return openAIModel{name, "model", 0, "relay"}
}

func modelList(d dialect, names []string) any {
	list := make([]any, len(names))
	for i, name := range names {
		list[i] = modelObject(d, name)
	}
	switch d {
	case dialectAnthropic:
		var first, last *string
		if len(names) > 0 {
			first, last = &names[0], &names[len(names)-1]
		}
		return map[string]any{"data": list, "has_more": false, "first_id": first, "last_id": last}
	case dialectGemini:
		return map[string]any{"models": list}
	}
	return map[string]any{"object": "list", "data": list}
}
