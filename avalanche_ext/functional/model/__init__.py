"""A model as a function: parameters as one vector, runs without side effects, layers' inputs."""
