"""Slow, plain answers in float64 that the tests compare the package with."""

from tests.oracles.arrays import Array
from tests.oracles.buffers import (
    gem_ring_by_loops,
    last_of_each_group,
    leaving_by_distance,
    leaving_old_and_near,
    ring_by_lists,
)
from tests.oracles.fisher import (
    diagonal_fisher_by_loops,
    outputs_by_loops,
    reversed_fisher_by_loops,
    sensitivity_by_loops,
)
from tests.oracles.kronecker import dense_by_loops, factors_by_loops, nearest_by_svd
from tests.oracles.losses import (
    discriminative_representation_loss_by_loops,
    margin_loss_by_loops,
    multi_similarity_by_loops,
)
from tests.oracles.metrics import (
    accuracy_by_loops,
    anytime_accuracy_by_loops,
    backward_transfer_by_loops,
    forgetting_by_loops,
    forward_transfer_by_loops,
    incremental_accuracy_by_loops,
    instance_accuracy_by_loops,
    intransigence_by_loops,
    learning_accuracy_by_loops,
    learning_curve_area_by_loops,
    minimum_accuracy_by_loops,
    stability_gap_by_loops,
    worst_case_accuracy_by_loops,
)
from tests.oracles.networks import (
    Network,
    anchor_by_loops,
    anchoring_loss_by_loops,
    bayesian_step_by_loops,
    cross_entropy_gradients,
    cross_entropy_of,
    edits_by_loops,
    hidden_and_outputs,
    interference_by_loops,
    sgd_step_by_loops,
)
from tests.oracles.projection import (
    agem_projection_by_loops,
    diagonal_projection_by_loops,
    gem_projection_by_active_sets,
    gem_projection_by_nnls,
    orthogonal_projection_by_loops,
)
from tests.oracles.rho import rho_by_loops
from tests.oracles.selection import (
    least_similar_by_enumeration,
    max_cosines_by_loops,
    replacements_by_enumeration,
)
from tests.oracles.supermasks import supermask_by_loops, task_by_differences

__all__ = [
    "Array",
    "Network",
    "accuracy_by_loops",
    "agem_projection_by_loops",
    "anchor_by_loops",
    "anchoring_loss_by_loops",
    "anytime_accuracy_by_loops",
    "backward_transfer_by_loops",
    "bayesian_step_by_loops",
    "cross_entropy_gradients",
    "cross_entropy_of",
    "dense_by_loops",
    "diagonal_fisher_by_loops",
    "diagonal_projection_by_loops",
    "discriminative_representation_loss_by_loops",
    "edits_by_loops",
    "factors_by_loops",
    "forgetting_by_loops",
    "forward_transfer_by_loops",
    "gem_projection_by_active_sets",
    "gem_projection_by_nnls",
    "gem_ring_by_loops",
    "hidden_and_outputs",
    "incremental_accuracy_by_loops",
    "instance_accuracy_by_loops",
    "interference_by_loops",
    "intransigence_by_loops",
    "last_of_each_group",
    "learning_accuracy_by_loops",
    "learning_curve_area_by_loops",
    "least_similar_by_enumeration",
    "leaving_by_distance",
    "leaving_old_and_near",
    "margin_loss_by_loops",
    "max_cosines_by_loops",
    "minimum_accuracy_by_loops",
    "multi_similarity_by_loops",
    "nearest_by_svd",
    "orthogonal_projection_by_loops",
    "outputs_by_loops",
    "replacements_by_enumeration",
    "reversed_fisher_by_loops",
    "rho_by_loops",
    "ring_by_lists",
    "sensitivity_by_loops",
    "sgd_step_by_loops",
    "stability_gap_by_loops",
    "supermask_by_loops",
    "task_by_differences",
    "worst_case_accuracy_by_loops",
]
