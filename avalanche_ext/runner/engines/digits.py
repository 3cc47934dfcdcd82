"""Scikit-learn's digits, read on import, since that takes longer than a short run."""

from avalanche_ext.benchmarks.datasets import digits

digits()
