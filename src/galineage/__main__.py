"""``python -m galineage`` is the command line."""

import sys

from galineage.cli import main

if __name__ == "__main__":
    sys.exit(main())
