"""What draws: the only place that knows torch and diffusers, in processes of its own."""

import os

# Read by the libraries when they are imported: their advice to developers has no place in a service's log.
for _variable in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
    os.environ.setdefault(_variable, "error")
