"""The gateway: REST and SSE in, gRPC out, and the same protos served to gRPC clients through the same dispatch path."""

__version__ = "0.1.0"
