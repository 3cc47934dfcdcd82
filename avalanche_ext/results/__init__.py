"""The files of an experiment: names and places, formats, writing and reading.

Read an experiment with `experiment.read_results`. Nothing is imported here, so that each user
imports only what it needs: configurations the names, plugins the exhibits' formats.
"""
