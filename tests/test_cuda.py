"""Everything works on a GPU as on the CPU."""

import json

import pytest
import torch

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
    "er, separate passes": {"plugins": [{"online_replay": {"mem_size": 20, "loss": "separate"}}]},
    "mir": {"plugins": [{"mir": {"mem_size": 20}}]},
    "gmed": {"plugins": [{"gmed": {"mem_size": 20, "decay": 0.1, "keep_originals": True}}]},
    "mir+gmed": {"strategy": "GMED", "args": {"mem_size": 20, "retrieval": "mir"}},
    "random edit": {"plugins": [{"gmed": {"mem_size": 20, "edit": "random"}}]},
    "hindsight edit": {"plugins": [{"gmed": {"mem_size": 20, "edit": "hindsight"}}]},
    "hal": {"plugins": [{"hal": {"mem_size": 20}}]},
    "bgd": {"plugins": [{"bgd": {"initial_std": 0.05}}]},
    "gem": {"plugins": [{"mgem": {"size_per_task": 20, "statistics": True}}]},
    "p-mgem": {
        "plugins": [{"mgem": {"size_per_task": 20, "partition": "layer", "solver": "diagonal"}}]
    },
    "d-mgem": {"strategy": "MGEM", "args": {"size_per_task": 20, "n_groups": 3, "partition": 4}},
    "gem behind er": {
        "plugins": [{"online_replay": {"mem_size": 20}}, {"mgem": {"group_by": "class"}}]
    },
}


@pytest.mark.parametrize("method", METHODS)
def test_a_cell_gives_the_same_accuracies_up_to_rounding(tmp_path, method):
    rows = []
    for device in ("cpu", "cuda"):
        one = cell(tmp_path, method, methods=METHODS, training={"batch_size": 5, "device": device})
        assert run_cell(one, tmp_path / device, None) == "completed"
        result = json.loads((one.directory(tmp_path / device) / "result.json").read_text())
        rows.append(torch.tensor(result["R"]))
    torch.testing.assert_close(rows[0], rows[1], atol=0.05, rtol=0)
