"""Scikit-learn's digits, read as soon as this is imported, which takes longer than a short run."""

from avalanche_ext.benchmarks.datasets import digits

digits()
