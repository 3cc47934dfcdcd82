"""Everything works on a GPU as on the CPU."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from avalanche_ext.data.samples import Shared
from avalanche_ext.runner.cell import run_cell
from tests.runner.cases import cell

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

METHODS = {
    "naive": {},
    "replay": {"strategy": "avalanche:Replay", "args": {"mem_size": 20}},
    "er": {"plugins": [{"online_replay": {"mem_size": 20, "loss": "sum"}}]},
    "ring": {
        "plugins": [{"online_replay": {"buffer": "ring", "draw": "half", "stream": "stored"}}]
    },
    "drl": {"plugins": [{"balanced_replay": {"mem_size": 20}}, {"drl": {"lam": 0.01}}]},
    "multi_similarity": {"plugins": [{"balanced_replay": {"mem_size": 20}}, "multi_similarity"]},
    "r_margin": {"plugins": [{"balanced_replay": {"mem_size": 20}}, {"r_margin": {"hinge": True}}]},
    "r_margin_that_redraws": {"plugins": [{"r_margin": {"redraw": True, "lr": 0.1}}]},
    "proxies": {
        "plugins": [
            {
                "metric_loss": {
                    "loss": "ProxyAnchorLoss",
                    "lam": 0.1,
                    "args": {"num_classes": 10, "embedding_size": 16},
                }
            }
        ]
    },
    "er_separate_passes": {"plugins": [{"online_replay": {"mem_size": 20, "loss": "separate"}}]},
    "gss": {"plugins": [{"gss": {"mem_size": 20, "n_iterations": 2}}]},
    "mir": {"plugins": [{"mir": {"mem_size": 20}}]},
    "gmed": {"plugins": [{"gmed": {"mem_size": 20, "decay": 0.1, "keep_originals": True}}]},
    "mir_gmed": {"strategy": "GMED", "args": {"mem_size": 20, "retrieval": "mir"}},
    "random_edit": {"plugins": [{"gmed": {"mem_size": 20, "edit": "random"}}]},
    "hindsight_edit": {"plugins": [{"gmed": {"mem_size": 20, "edit": "hindsight"}}]},
    "hal": {"plugins": [{"hal": {"mem_size": 20}}]},
    "bgd": {"plugins": [{"bgd": {"initial_std": 0.05}}]},
    "gem": {"plugins": [{"mgem": {"size_per_task": 20, "statistics": True}}]},
    "agem": {"plugins": [{"agem": {"mem_size": 20, "references": "all"}}]},
    "agem_that_replays": {
        "plugins": [
            {
                "agem": {
                    "buffer": "ring",
                    "references": "other_classes",
                    "replacement": True,
                    "replay": "first_task",
                }
            }
        ]
    },
    "p-mgem": {
        "plugins": [{"mgem": {"size_per_task": 20, "partition": "layer", "solver": "diagonal"}}]
    },
    "d-mgem": {"strategy": "MGEM", "args": {"size_per_task": 20, "n_groups": 3, "partition": 4}},
    "online_ewc": {"plugins": [{"online_ewc": {"n_samples": 50}}]},
    "online_ewc_in_the_gradient": {
        "plugins": [{"online_ewc": {"lam": 1.0, "kind": "sampled", "update": "gradient"}}]
    },
    "online_ewc_without_boundaries": {
        "strategy": "OnlineEWC",
        "args": {"every": 10, "n_samples": 30, "kind": "empirical"},
    },
    "spectrum": {"plugins": [{"fisher_spectrum_ewc": {"rank": 10, "n_samples": 50}}]},
    "spectrum_alone": {
        "strategy": "FisherSpectrumEWC",
        "args": {"rank": 10, "n_samples": 50, "kind": "sampled", "residual": "none"},
    },
    "kronecker": {"plugins": [{"kronecker_ewc": {"n_samples": 50}}]},
    "kronecker_by_task": {
        "strategy": "KroneckerEWC",
        "args": {"n_samples": 50, "kind": "sampled", "merge": "none", "damping": 0.01},
    },
    "mas": {"plugins": ["mas"]},
    "rho_spectrum": {"plugins": [{"rho_spectrum": {"n_samples": 10}}]},
    "si": {"plugins": ["synaptic_intelligence"]},
    "si_in_the_gradient": {"plugins": [{"synaptic_intelligence": {"update": "gradient"}}]},
    "drl_analysed": {
        "plugins": [
            {"balanced_replay": {"mem_size": 20}},
            {"drl": {"lam": 0.01}},
            {"gradient_diversity": {"n_samples": 20}},
        ]
    },
    "gem_behind_er": {
        "plugins": [{"online_replay": {"mem_size": 20}}, {"mgem": {"group_by": "class"}}]
    },
}


def accuracies(folder: Path, method: str, **training: Any) -> torch.Tensor:
    one = cell(folder, method, methods=METHODS, training={"batch_size": 5, **training})
    assert run_cell(one, folder / "out", None) == "completed"
    return torch.tensor(
        json.loads((one.directory(folder / "out") / "result.json").read_text())["R"]
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_cell_gives_the_same_accuracies_up_to_rounding(tmp_path, method):
    rows = []
    for device in ("cpu", "cuda"):
        (tmp_path / device).mkdir()
        rows.append(accuracies(tmp_path / device, method, device=device))
    torch.testing.assert_close(rows[0], rows[1], atol=0.05, rtol=0)


@pytest.mark.parametrize("method", ["er", "drl", "online_ewc", "d-mgem"])
def test_compiled_steps_give_the_same_accuracies_up_to_rounding(tmp_path, method):
    rows = []
    for compiled in (False, True):
        (tmp_path / str(compiled)).mkdir()
        training = {"device": "cuda", "compile": compiled}
        rows.append(accuracies(tmp_path / str(compiled), method, **training))
    torch.testing.assert_close(rows[0], rows[1], atol=0.05, rtol=0)


def test_a_shared_tensor_has_one_copy_on_a_gpu():
    shared = Shared(torch.zeros(3))
    assert shared.to("cuda") is shared.to("cuda:0") is shared.to("cuda").to("cuda")
