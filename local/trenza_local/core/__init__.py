"""Decisions of the launcher: no processes, no clock."""
