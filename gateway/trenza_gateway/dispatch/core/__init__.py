"""The pure decisions of dispatching: standard library only, time and chance are arguments."""
