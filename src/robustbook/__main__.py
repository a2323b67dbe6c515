"""`python -m robustbook` is the command `robustbook`."""

import sys

from robustbook.cli import main

if __name__ == "__main__":
    sys.exit(main())
