"""What the tests of the ρ-spectrum share."""

import torch

SMALL = {"n_experiences": 5, "train_size": 30}


def hidden_of(model, x):
    """Both hidden layers of `small_model`, after their activations."""
    with torch.no_grad():
        first = torch.relu(model.hidden[0](x.flatten(1)))
        return first, torch.relu(model.hidden[2](first))


def samples(benchmark, tasks, n):
    return torch.cat([benchmark.test_stream[task].dataset.x[:n] for task in tasks])
