"""Decisions of the engine that need neither a model nor a clock."""
