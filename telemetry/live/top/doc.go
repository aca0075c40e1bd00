// Package top is `relay top`: the figures of the live page on a terminal, redrawn
// in place, or once as text or JSON.
//
// It talks to a relay's admin listener over HTTP only. What a client of the
// relay may have chosen, such as the name of a model, reaches the terminal
// without control characters. The terminal is put back as it was however the
// command ends, kill -9 aside.
package top
