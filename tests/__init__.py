"""A package of its own: avalanche-lib installs another `tests`, which would be imported instead."""
