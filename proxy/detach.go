package proxy

// detach copies what the exchange still needs of the request's head. fasthttp
// may give the request away while the writer carrier's goroutine runs on.
func (x *exchange) detach() {
	o := &x.obs
	kept := [...]*[]byte{&x.requestID, &o.Path, &o.UserAgent, &o.Tenant, &o.Model, &o.Method}
	n := 0
	for _, p := range kept {
		n += len(*p)
	}
	all := make([]byte, 0, n)
	for _, p := range kept {
		from := len(all)
		all = append(all, *p...)
		*p = all[from:len(all):len(all)]
	}
	o.RequestID = x.requestID
	x.adm.head = requestHead{}
	x.adm.target.path, x.adm.target.rest, x.adm.target.query = nil, nil, nil
}
