"""Scorers: each module says in `score`, between 0 and 1, how good a replica would be."""
