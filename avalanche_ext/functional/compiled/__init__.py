"""The loss of a mini-batch and its gradients from one compiled function."""
