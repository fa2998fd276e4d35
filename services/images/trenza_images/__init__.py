"""Trenza's images service: pictures over gRPC."""
