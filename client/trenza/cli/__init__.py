"""The `trenza` command."""
