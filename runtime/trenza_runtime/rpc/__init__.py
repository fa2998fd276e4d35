"""gRPC: servers that start, serve and drain alike, and channels that survive long silences."""
