"""Pure decisions: which names may be written, and which of a source's files are wanted."""
