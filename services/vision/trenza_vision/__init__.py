"""Trenza's vision service: conversations about pictures over gRPC."""
