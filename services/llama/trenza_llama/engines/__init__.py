"""The files that import llama.cpp; everything else in this package works without it."""
