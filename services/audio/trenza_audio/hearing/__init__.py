"""Hearing: speech to text, of the same language or English."""
