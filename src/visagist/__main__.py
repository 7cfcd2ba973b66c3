"""`python -m visagist` is the command `visagist`."""

import sys

from visagist.apps.cli import main

if __name__ == "__main__":
    sys.exit(main())
