"""The type of the oracles' arrays."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
