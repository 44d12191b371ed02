"""``python -m atoll``, and what the command ``atoll`` calls; see _cli/main.py."""

import os
import sys

from ._cli.main import main

if __name__ == "__main__":
    if not sys.flags.safe_path and sys.path and sys.path[0] == os.getcwd():
        # "-m" has put it there; what is installed is not to be hidden by it.
        del sys.path[0]
    sys.exit(main())
