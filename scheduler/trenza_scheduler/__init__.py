"""Trenza's scheduler: membership, admission queue, routing and scaling signals."""
