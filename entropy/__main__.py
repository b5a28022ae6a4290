"""`python3 -m entropy`: the same as the command `entropy`."""

import sys

try:
    from entropy.cli import main
except KeyboardInterrupt:  # loading takes long enough to be interrupted
    sys.exit(130)

sys.exit(main())
