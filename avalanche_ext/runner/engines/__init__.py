"""Where cells run: in processes of this machine, or on the workers of a Dask or Ray cluster."""

from avalanche_ext.runner.engines.base import BACKENDS, Engine, engine

__all__ = ["BACKENDS", "Engine", "engine"]
