"""`python -m skillmoe_lib` is the command `skillmoe`."""

import sys

from skillmoe_lib.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
