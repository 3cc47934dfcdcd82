"""The first thing that the server of workers imports.

Collections would walk in vain through all that it imports then, for a seventh of the time. Workers
begin to collect again.
"""

import gc

gc.disable()
