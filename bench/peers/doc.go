// Command peers puts the relay and other proxies through the same scenarios on
// one machine, in one invocation and in turns, and prints what each cost as a
// ratio to nginx. Provider, load generator and peers are processes of their own
// (this binary started again in another role, or the peer's binary), so that
// each one's CPU and memory can be told apart; every run starts its own three,
// so that none inherits another's heap or sockets. All traffic stays on
// loopback, everything is bounded, and what was started is ended with it.
//
//	go run ./bench/peers -relay bin/relay
//	go run ./bench/peers -peers nginx,goproxy -scenarios paced,json -tls both -reps 3
package main
