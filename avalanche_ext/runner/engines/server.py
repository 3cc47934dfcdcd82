"""The first thing that the server of workers imports.

Collections would walk in vain through all that it imports then, for a seventh of the time. Workers
begin to collect again. Whoever else imports this module goes on collecting.
"""

import gc
import sys
from multiprocessing import forkserver

if getattr(sys.modules["__main__"], "main", None) is forkserver.main:
    gc.disable()
