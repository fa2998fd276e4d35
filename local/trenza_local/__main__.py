"""`python -m trenza_local` does what `trenza up` does."""

import sys

from trenza_local.command import up

if __name__ == "__main__":
    sys.exit(up(sys.argv[1:]))
