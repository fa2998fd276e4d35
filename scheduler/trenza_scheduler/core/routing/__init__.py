"""Chooses a replica for a ticket: filter, score, pick.

`views` is what a replica looks like to a decision, `filters` rules replicas out, `scorers` values those that are left between
0 and 1, `pick` takes the best and explains itself.
"""
