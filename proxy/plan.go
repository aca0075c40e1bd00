package proxy

import (
	"bytes"
	"slices"

	"streamrelay/proxy/peek"
	"streamrelay/proxy/watch"
)

// geminiModels begins the names of models in Gemini's bodies.
var geminiModels = []byte("models/")

// plan applies the key's rights, finds where the request may go, and prepares
// what is changed in it.
func (x *exchange) plan() *apiError {
	a := &x.adm
	ep := &endpoints[a.target.endpoint]
	model := x.obs.Model
	if a.target.pathModel != nil {
		model = a.target.pathModel
		x.obs.Model = append(x.model[:0], model[:min(len(model), len(x.model))]...)
	}
	if rest, named := bytes.CutPrefix(model, geminiModels); named && a.target.dialect == dialectGemini {
		model = rest // its names of resources, as in cachedContents; rules and records have none
		x.obs.Model = model
	}
	unnamed := len(model) == 0 && !x.modelCall()
	if !unnamed && !a.rec.AllowsModel(model) {
		return errModelNotAllowed
	}
	if !a.rec.AllowsModel(nil) && !x.allowedAll(ep, unnamed) {
		return errModelNotAllowed
	}
	var err *apiError
	if unnamed {
		// Lists, files and batches belong to no model: the first route for
		// every model takes them, or else the first route.
		if x.to, err = x.set.routing.choose(a.target.dialect, a.tenant, nil); err == errModelNotFound {
			x.to, err = x.set.routing.any(a.target.dialect, a.tenant)
		}
	} else {
		x.to, err = x.set.routing.choose(a.target.dialect, a.tenant, model)
	}
	if err == errModelNotFound && len(model) == 0 && a.body == bodyStream {
		err = errModelFirst
	}
	if err == nil && x.to.alias != nil && a.target.pathModel != nil && a.target.modelTo == 0 {
		err = errPathBytes
	}
	if err != nil {
		return err
	}
	x.modelHash = watch.HashID(model)
	x.bill = a.target.billing(x.ctx.IsPost())
	if err := x.pin(unnamed); err != nil {
		return err
	}
	x.obs.UpstreamModel = x.to.alias
	return nil
}

// allowedAll reports whether a key that is bound to models may use all those
// that the request asks for beside its own, as far as anybody knows.
func (x *exchange) allowedAll(ep *endpoint, unnamed bool) bool {
	a := &x.adm
	if ep.blind && a.body != bodyNone && (unnamed || ep.files) {
		return false
	}
	return a.body != bodyHeld || peek.OtherModels(x.held.B, ep.blind && !x.modelCall(), a.rec.AllowsModel)
}

// prepareBody notes what is changed in the body for the attempt's upstream.
func (x *exchange) prepareBody() {
	a := &x.adm
	ep := &endpoints[a.target.endpoint]
	x.ans.strip = false
	edits := x.edits[:0]
	switch {
	case a.body == bodyHeld:
		opt := peek.EditOptions{Scratch: x.scratch[:0]}
		if a.target.pathModel == nil {
			opt.Model = x.to.alias
			if opt.Model != nil && a.target.dialect == dialectGemini && bytes.HasPrefix(x.req.Model, geminiModels) {
				opt.Model = append(slices.Clip(geminiModels), opt.Model...)
			}
		}
		if x.up.AsksUsage && ep.usage && a.target.dialect != dialectAnthropic {
			opt.IncludeUsage = x.req.AsksUsage()
			x.ans.strip = opt.IncludeUsage
		}
		edits = x.req.Edits(edits, opt)
	case a.body == bodyStream && x.to.alias != nil && a.target.pathModel == nil && x.formModel.Del > 0:
		x.formModel.Ins = x.to.alias
		edits = append(edits, x.formModel)
	}
	x.nEdits = len(edits)
}

// modelCall reports whether the request is one that a model answers: rules for
// models apply to it even where it names none.
func (x *exchange) modelCall() bool {
	a := &x.adm
	ep := &endpoints[a.target.endpoint]
	if !ep.model || !x.ctx.IsPost() || a.body == bodyNone {
		return false
	}
	return !ep.exact || len(a.target.tail) == 0
}

// pin finds the one account that the request must go to, since what it refers
// to is there. Where that cannot be known and several accounts could be meant
// it refuses, and so it does where the route leads to others.
func (x *exchange) pin(unnamed bool) *apiError {
	a := &x.adm
	ep := &endpoints[a.target.endpoint]
	x.pinned, x.learn = nil, ep.learns && x.set.routing.byDialect[a.target.dialect].Accounts() > 1
	id := a.target.objectID()
	if unnamed && x.learn && len(id) > 0 {
		// Without a model nothing tells by which route the object was made.
		c := x.srv.affinity.find(id)
		if to, c := x.set.routing.leadingTo(a.target.dialect, a.tenant, c); c != nil {
			x.to, x.pinned = to, c
			return nil
		}
		if ep.stored && !x.set.routing.oneAccount(a.target.dialect, a.tenant) {
			return errUnknownObject
		}
	}
	if x.to.candidates.Accounts() == 1 {
		return nil
	}
	switch {
	case ep.stored && len(id) > 0:
		return x.pinTo(id, errUnknownObject)
	case unnamed && ep.name == "models":
		return nil // any account's list
	case unnamed:
		// Files and batches are made with the first account, so that they are
		// together; what is known to be elsewhere is asked there.
		if x.pinTo(id, nil); x.pinned == nil {
			x.pinFiles()
		}
		if x.pinned == nil {
			x.pinned = x.to.candidates.First()
		}
		return nil
	case a.body == bodyHeld && ep.stored && len(x.req.PreviousResponseID) > 0:
		return x.pinTo(x.req.PreviousResponseID, errPreviousResponse)
	}
	x.pinFiles()
	return nil
}

// pinTo pins the request to who made the object; unknown is the error where
// that is not known.
func (x *exchange) pinTo(id []byte, unknown *apiError) *apiError {
	account := x.srv.affinity.find(id)
	if account == nil {
		return unknown
	}
	if x.pinned = x.to.candidates.Of(account); x.pinned == nil {
		return unknown
	}
	return nil
}

// pinFiles pins the request to who made a file that it refers to.
func (x *exchange) pinFiles() {
	if x.adm.body != bodyHeld {
		return
	}
	if account := x.srv.affinity.findIn(x.held.B); account != nil {
		x.pinned = x.to.candidates.Of(account)
	}
}

// objectID is the id of the object that the path names, nil for none.
func (t *target) objectID() []byte {
	if len(t.tail) < 2 || t.tail[0] != '/' {
		return nil
	}
	id, _, _ := bytes.Cut(t.tail[1:], []byte{'/'})
	switch string(id) {
	case "compact", "input_tokens": // operations of the Responses API
		return nil
	}
	return id
}
