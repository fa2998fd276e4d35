"""Chooses a replica for a ticket: filter, score, pick.

`candidate` is what a replica and a ticket look like to a decision. Each module in `filters` answers whether a replica may be
chosen; each in `scorers` says between 0 and 1 how good it would be. `route` lists both, with the scorers' weights, takes the best
and explains itself. A new policy is a module with one function, a line in one of the two lists, and a table of cases.
"""
