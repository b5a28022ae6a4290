"""The daemon between feeders and clients.

server     the life of the process: start, accept, stop
ports      all that it listens at
session    one connection: prove, permit, answer
logins     who has proved itself, and what its key permits
service    what a draw, a feed and a recall do: no I/O, the time is asked of a callable
draws      whose draw is next
limits     token buckets
ids        what is remembered of each id
access     who may come in
uses       when each key was first used
alarms     what an operator should look into
peer       tops this reservoir up from other brokers'
draining   taking this broker away without a draw that fails
clones     this machine was copied: nothing of before is used
agent      haproxy's agent check: how much of the load this broker wants
control    the unix socket for the machine's operator
status     the same facts as JSON and as metrics
check      reads all that a configuration names
"""
