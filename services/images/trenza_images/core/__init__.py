"""Decisions about pictures: sizes, defaults, who shares a step, what fits into memory. Pure."""
