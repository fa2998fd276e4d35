"""One machine: starts, supervises and stops every process of a mesh."""
