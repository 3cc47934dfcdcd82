"""The state of objects as tensors and plain data, which `torch.load(weights_only=True)` reads."""

from avalanche_ext.state.decode import restored
from avalanche_ext.state.encode import NotStorableError, encoded
from avalanche_ext.state.names import StateError

__all__ = ["NotStorableError", "StateError", "encoded", "restored"]
