// Package peek reads what the relay must know from a request before it can
// choose where to send it: model, stream and stream_options of a JSON body, the
// model field of a multipart form, a credential in the query. It also says which
// bytes to splice so that the provider gets another model name or is asked for
// usage, and every other byte stays as the client sent it.
//
// It does no I/O, keeps no state between calls and, but where a comment says so,
// allocates only for the error it returns; its results point into its arguments.
//
// Its caller may rely on this: a body that Parse accepts is one RFC 8259 document
// and means the same to every reader, as far as the relay looks. Where two readers
// could disagree (a repeated key, a key in another case, a second document, a
// byte order mark) Parse refuses, and FormModel finds nothing, so that no rule
// about models is passed by an ambiguity. Everything else is the provider's to judge.
package peek
