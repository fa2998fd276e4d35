"""Filters: each module says in `allows` whether a replica may be chosen at all."""
