"""Set before torch is imported: with models this small, threads cost more than they give."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
