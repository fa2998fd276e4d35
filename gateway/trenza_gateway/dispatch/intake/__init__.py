"""Turns requests into jobs: is there such a model, can it do this, what does the ticket say."""
