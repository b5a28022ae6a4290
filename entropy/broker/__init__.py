"""The daemon between feeders and clients.

server     the life of the process: start, accept, stop
session    one connection: prove, permit, answer
service    what a draw, a feed and a recall do: no I/O, the time is asked of a callable
draws      whose draw is next
limits     token buckets
ids        what is remembered of each id
access     who may come in
uses       when each key was first used
peer       tops this reservoir up from another broker's
control    the unix socket for the machine's operator
status     the same facts as JSON and as metrics
check      reads all that a configuration names
"""
