"""The gRPC side of the gateway: the public services, dispatched like HTTP requests."""
