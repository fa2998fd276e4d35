"""The scheduler's decisions: a deterministic state machine. Time and randomness are arguments; nothing here waits or talks.

`machine.Machine.apply` takes an event and returns actions. `fleet` knows the replicas, `queue` the line of tickets, `routing`
chooses among replicas, `stories` remembers what was decided and why.
"""
