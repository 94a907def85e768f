"""``python -m frofa`` is the ``frofa`` command."""

import sys

from frofa.cli import main

sys.exit(main())
