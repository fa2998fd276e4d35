"""Trenza's chat service: text generation over gRPC."""
