"""`python -m avalanche_ext`: the same as the console script `avalanche-ext`."""

import sys

from avalanche_ext.cli import main

sys.exit(main())
