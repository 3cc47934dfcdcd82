"""The first module that the workers' server imports.

It switches garbage collection off in the server, where collecting during the imports would take a
seventh of the time and free nothing. Workers switch it on again. Other processes that import this
module keep collecting.
"""

import gc
import sys
from multiprocessing import forkserver

if getattr(sys.modules["__main__"], "main", None) is forkserver.main:
    gc.disable()
