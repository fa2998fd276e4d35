"""Engines of the vision service beside the shared one; the only place for heavy libraries."""
