"""The scheduler's decisions: a deterministic state machine. Time and randomness are arguments; nothing here waits or talks.

`Machine.apply` takes an event, the time and a random generator, and returns actions. The same events at the same times with
the same generator give the same actions, which is how scenarios and storms of random events are tested.

- `domain`, `events`, `actions`, `limits`: the vocabulary. Everything in it is frozen.
- `membership`: which replicas there are, and how far they are to be trusted: live, suspect, dead.
- `leases`: what runs under a lease, counted exactly.
- `rooms`: how many slots a replica has left, from its reports and our leases.
- `queue`: the lines of tickets, one per model, bounded as a whole. The order of service is decided there and nowhere else.
- `routing`: filter, score, pick; one small module per policy.
- `affinity`: which replica has seen a conversation, or the beginning of a prompt.
- `placing`: walks down the lines that an event touched and grants what can be granted.
- `expected`: models that are scaled to zero, or may be: they have replicas when they are asked for.
- `figures`, `activity`: what autoscalers go by.
- `pace`: how long requests take, for expected waits and retry-after.
- `stories`: what was decided lately, and why.
- `machine`: puts these together.
"""
