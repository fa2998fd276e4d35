"""Fetches models from a hub, a bucket or a folder into a models root, whole or not at all."""
