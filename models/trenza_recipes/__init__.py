"""Recipes that make the starter models of Trenza."""
