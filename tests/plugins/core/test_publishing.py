"""Plugins' numbers reach Avalanche's evaluator, and so any of its loggers."""

import pytest
from avalanche.training.plugins import EvaluationPlugin

from avalanche_ext.plugins import (
    BalancedReplayPlugin,
    GradientDiversityPlugin,
    GSSPlugin,
    RhoSpectrumPlugin,
    RMarginPlugin,
    SpectrumAnalysisPlugin,
)
from tests.cases import digits, make_naive

TELLING = {
    "rho_spectrum": lambda: [RhoSpectrumPlugin(20)],
    "gradient_diversity": lambda: [GradientDiversityPlugin(10)],
    "spectrum": lambda: [SpectrumAnalysisPlugin(5, 20)],
    "gss": lambda: [GSSPlugin(30)],
    "r_margin": lambda: [BalancedReplayPlugin(30), RMarginPlugin()],
}


@pytest.mark.parametrize("name", TELLING)
def test_after_each_experience_the_evaluator_has_what_the_plugin_tells(name):
    plugins = TELLING[name]()
    evaluator = EvaluationPlugin(loggers=[], collect_all=True)
    strategy = make_naive(*plugins, evaluator=evaluator)
    benchmark, told = digits(), []
    for experience in benchmark.train_stream[:2]:
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test_stream)
        told.append(plugins[-1].diagnostics())
    assert told[-1]
    assert any(each.split("/")[0] == name for each in told[-1])
    published = evaluator.get_all_metrics()
    for each, value in told[-1].items():
        _, values = published[each]
        assert values == [numbers[each] for numbers in told if each in numbers]
        assert values[-1] == value
