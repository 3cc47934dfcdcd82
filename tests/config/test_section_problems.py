"""What a user reads who mistyped something outside the methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.config.cases import EXPERIMENT, experiment_with, problems_of

LONG = "x" * 200
KEYS = (
    "name, benchmark, model, optimizer, training, seeds, methods, baseline, claims, analyses, "
    "tune, validation, evaluate, wandb, published"
)


@pytest.mark.parametrize(
    ("document", "line"),
    [
        # The document.
        ({**EXPERIMENT, "sedes": 3}, "sedes: unknown key 'sedes' (did you mean 'seeds'?)"),
        (
            experiment_with(name="a b"),
            "name: is 'a b', but must be a folder name: use only letters, digits, "
            "'_', '-' and '.', and do not begin with '-' or '.'",
        ),
        (
            experiment_with(name=".."),
            "name: is '..', but must be a folder name: use only letters, digits, "
            "'_', '-' and '.', and do not begin with '-' or '.'",
        ),
        (experiment_with(name=3), "name: is 3, but must be text"),
        (experiment_with(seeds=0), "seeds: is 0, but must be greater than 0"),
        (experiment_with(seeds=True), "seeds: is true, but must be an integer or a list"),
        (
            experiment_with(seeds="5"),
            "seeds: is '5', but must be an integer or a list (remove the quotes)",
        ),
        (experiment_with(seeds=[]), "seeds: is [], but must have at least one item"),
        (experiment_with(seeds=10**12), "seeds: is 1000000000000, but must be at most 10000"),
        ({**EXPERIMENT, "a\nb": 3}, rf"a\nb: unknown key 'a\nb' (known: {KEYS})"),
        (
            experiment_with(seeds=[2**32]),
            "seeds[0]: is 4294967296, but must be less than 4294967296",
        ),
        (experiment_with(seeds=[0, -1]), "seeds[1]: is -1, but must be at least 0"),
        (
            experiment_with(seeds=[0, "1"]),
            "seeds[1]: is '1', but must be an integer (remove the quotes)",
        ),
        (experiment_with(seeds=[2, 1, 2]), "seeds: has 2 more than once"),
        (experiment_with(methods={}), "methods: is {}, but must have at least one item"),
        (
            experiment_with(methods=["ber"]),
            'methods: is ["ber"], but must be a mapping of names to values',
        ),
        (
            experiment_with(methods={"a/b": None}),
            "methods.a/b: is 'a/b', but must be a folder name: use only letters, digits, "
            "'_', '-' and '.', and do not begin with '-' or '.'",
        ),
        (
            experiment_with(baseline="naiv"),
            "baseline: unknown method 'naiv' (did you mean 'naive'?)",
        ),
        (experiment_with(baseline="x"), "baseline: unknown method 'x' (known: naive, replay, drl)"),
        # Training, wandb.
        (
            experiment_with(training=None),
            "training: is null, but must be a mapping of names to values",
        ),
        (experiment_with(training={}), "training.batch_size: missing"),
        (
            experiment_with(wandb={"tags": ["x" * 65]}),
            "wandb.tags[0]: has 65 characters, but wandb takes at most 64",
        ),
        (
            experiment_with(wandb={"tags": [""]}),
            "wandb.tags[0]: is '', but must have at least one character",
        ),
        (
            experiment_with(wandb={"report": "yes"}),
            "wandb.report: is 'yes', but must be true or false",
        ),
        (
            experiment_with(training={"batch_size": 0}),
            "training.batch_size: is 0, but must be greater than 0",
        ),
        (
            experiment_with(training={"batch_size": 10, "epohcs": 2}),
            "training.epohcs: unknown key 'epohcs' (did you mean 'epochs'?)",
        ),
        (
            experiment_with(training={"batch_size": 10, "shuffle": "no"}),
            "training.shuffle: is 'no', but must be true or false",
        ),
        (
            experiment_with(training={"batch_size": 10, "iid": "yes"}),
            "training.iid: is 'yes', but must be true or false",
        ),
        (
            experiment_with(training={"batch_size": 10, "device": "gpu"}),
            "training.device: is 'gpu', but must be 'cpu', 'cuda' or 'cuda:<n>'",
        ),
        (
            experiment_with(training={"batch_size": 1, "device": "cuda:00"}),
            "training.device: is 'cuda:00', but must be 'cpu', 'cuda' or 'cuda:<n>'",
        ),
        (
            experiment_with(wandb={"mode": "ofline"}),
            "wandb.mode: is 'ofline', but must be 'offline', 'online' or 'disabled' "
            "(did you mean 'offline'?)",
        ),
        (
            experiment_with(wandb="offline"),
            "wandb: is 'offline', but must be a mapping of names to values",
        ),
        (experiment_with(wandb=False), "wandb: is false, but must be a mapping of names to values"),
        # Components.
        (
            experiment_with(benchmark="split_digit"),
            "benchmark: unknown benchmark 'split_digit' (did you mean 'split_digits'?)",
        ),
        (
            experiment_with(benchmark={"name": "split_digits", "n_experience": 5}),
            "benchmark.n_experience: unknown key 'n_experience' (did you mean 'n_experiences'?)",
        ),
        (
            experiment_with(benchmark={"name": "split_digits", "seed": 1}),
            "benchmark.seed: 'seed' cannot be set here: it comes from seeds",
        ),
        (
            experiment_with(benchmark={"name": "split_digits", "order_seed": "sed"}),
            "benchmark.order_seed: is 'sed', but must be an integer, 'seed' or null "
            "(did you mean 'seed'?)",
        ),
        (
            experiment_with(benchmark={"name": "split_digits", "pool_size": 0}),
            "benchmark.pool_size: is 0, but must be greater than 0 or null",
        ),
        (
            experiment_with(benchmark={"name": "split_digits", "test_subset": "frist"}),
            "benchmark.test_subset: is 'frist', but must be 'first', 'order' or 'seed' "
            "(did you mean 'first'?)",
        ),
        (
            experiment_with(benchmark=5),
            "benchmark: is 5, but must be a mapping with the benchmark's name and arguments",
        ),
        (
            experiment_with(model={"hidden_sizes": [100]}),
            "model.name: missing, must be one of mlp, slim_resnet18, simple_cnn, supsup",
        ),
        (
            experiment_with(model={"name": 3, "hidden_sizes": [100]}),
            "model.name: is 3, but must be one of mlp, slim_resnet18, simple_cnn, supsup",
        ),
        (
            experiment_with(model="mlp"),
            "model.hidden_sizes: missing, but 'mlp' needs it (list of integer > 0)",
        ),
        (
            experiment_with(model={"name": "mlp", "hidden_sizes": [100, 0]}),
            "model.hidden_sizes[1]: is 0, but must be greater than 0",
        ),
        (
            experiment_with(model={"name": "mlp", "hidden_sizes": 100}),
            "model.hidden_sizes: is 100, but must be a list",
        ),
        (
            experiment_with(optimizer={"name": "sgd", "lr": 0.1}),
            "optimizer.name: unknown optimizer 'sgd' (did you mean 'SGD'?)",
        ),
        (
            experiment_with(optimizer={"name": "SGD", "lr": "0.1"}),
            "optimizer.lr: is '0.1', but must be a number (remove the quotes)",
        ),
        (
            experiment_with(optimizer={"name": "SGD", "lr": True}),
            "optimizer.lr: is true, but must be a number",
        ),
        (
            experiment_with(optimizer={"name": "Adam", "betas": [0.9]}),
            "optimizer.betas[1]: missing",
        ),
        # Long and odd values stay on one line.
        (
            experiment_with(seeds=LONG),
            f"seeds: is '{'x' * 56}..., but must be an integer or a list",
        ),
        (experiment_with(seeds="a\nb"), r"seeds: is 'a\nb', but must be an integer or a list"),
    ],
)
def test_a_mistake_is_named_with_path_value_and_right_word(
    document: dict[str, Any], line: str, tmp_path: Path
) -> None:
    assert problems_of(document, tmp_path) == [line]
