"""Hearing's decisions: pure functions on plain data."""
