"""Pure decisions about models: no clock, no network, no event loop."""
