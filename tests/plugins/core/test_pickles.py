"""A pickled plugin takes along neither the model nor the benchmark."""

import io
import pickle

import pytest
import torch
from avalanche.benchmarks import CLExperience, split_online_stream
from torch import nn

from avalanche_ext.plugins import (
    AGEMPlugin,
    BalancedReplayPlugin,
    BGDPlugin,
    DRLPlugin,
    FisherSpectrumEWCPlugin,
    GMEDPlugin,
    GSSPlugin,
    HALPlugin,
    KroneckerEWCPlugin,
    MASPlugin,
    MGEMPlugin,
    OGDPlugin,
    OnlineEWCPlugin,
    SynapticIntelligencePlugin,
)
from tests.cases import digits, make_naive


class Annotated(AGEMPlugin):
    """Adds a name to those that its base class leaves out of pickles."""

    not_pickled = ("note",)
    note = None


EACH = {
    "agem": lambda: AGEMPlugin(20, 10),
    "mgem": lambda: MGEMPlugin(10),
    "ogd": lambda: OGDPlugin(5),
    "bgd": lambda: BGDPlugin(n_draws=2),
    "drl": DRLPlugin,
    "ber": lambda: BalancedReplayPlugin(20),
    "gmed": lambda: GMEDPlugin(20),
    "gss": lambda: GSSPlugin(20),
    "hal": lambda: HALPlugin(20, hindsight_steps=1, anchor_steps=1),
    "ewc": lambda: OnlineEWCPlugin(n_samples=10),
    "spectrum": lambda: FisherSpectrumEWCPlugin(rank=2, n_samples=10),
    "kronecker": lambda: KroneckerEWCPlugin(n_samples=10),
    "mas": lambda: MASPlugin(n_samples=10),
    "si": SynapticIntelligencePlugin,
    "one of a user's own": lambda: Annotated(20, 10),
}


class Recording(pickle.Pickler):
    """Pickles, and records what it sees of a model, and all experiences."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(io.BytesIO())
        self.of_model = {id(each) for each in (*model.modules(), *model.parameters())}
        self.met: list[str] = []

    def persistent_id(self, obj: object) -> None:
        if id(obj) in self.of_model or isinstance(obj, CLExperience):
            self.met.append(type(obj).__name__)


@pytest.mark.parametrize("name", EACH)
def test_a_pickle_holds_neither_the_model_nor_an_experience(name):
    torch.manual_seed(0)
    plugin = EACH[name]()
    strategy = make_naive(plugin)
    *parts, _ = split_online_stream(digits(train_size=30).train_stream[:2], 10)
    for part in parts:
        strategy.train(part, eval_streams=[])
    pickler = Recording(strategy.model)
    pickler.dump(plugin)
    assert pickler.met == []
