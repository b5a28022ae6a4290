"""`python3 -m entropy`: the same as the command `entropy`."""

import sys

from entropy.cli import main

sys.exit(main())
