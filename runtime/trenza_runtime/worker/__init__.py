"""Engines in processes of their own: native code that aborts, leaks or hangs takes one model along, not the service."""
