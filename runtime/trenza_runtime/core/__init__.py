"""Pure decisions of the runtime: no clock, no network, no event loop."""
