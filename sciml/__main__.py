"""``python -m sciml``."""

import sys

from sciml.cli import main

if __name__ == "__main__":
    sys.exit(main())
