"""A model as a function: parameters as one vector, runs without a trace, what layers see."""
