package proxy

// detach copies what the exchange still needs of the request's head. fasthttp
// may give the request away while the writer carrier's goroutine runs on.
func (x *exchange) detach() {
	o := &x.obs
	for _, p := range []*[]byte{&x.requestID, &o.RequestID, &o.Path, &o.UserAgent, &o.Tenant, &o.Model, &o.Method} {
		*p = append([]byte(nil), *p...)
	}
	x.adm.head = requestHead{}
	x.adm.target.path, x.adm.target.rest, x.adm.target.query = nil, nil, nil
}
