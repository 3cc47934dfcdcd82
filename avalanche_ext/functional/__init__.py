"""The maths: tensors in, tensors out."""

from avalanche_ext.functional.fisher.diagonal import diagonal_fisher
from avalanche_ext.functional.fisher.kronecker import KroneckerCurvature, kronecker_fisher
from avalanche_ext.functional.fisher.spectrum import FisherSpectrum, fisher_spectrum
from avalanche_ext.functional.lookahead.editing import edit_examples
from avalanche_ext.functional.projection.orthogonal import project_orthogonally
from avalanche_ext.functional.projection.projection import project_gradient
from avalanche_ext.functional.representation.losses import (
    discriminative_representation_loss,
    margin_loss,
)
from avalanche_ext.functional.representation.multi_similarity import multi_similarity_loss
from avalanche_ext.functional.representation.rho import rho_spectrum
from avalanche_ext.functional.representation.selection import least_similar
from avalanche_ext.functional.supermasks import infer_tasks, supermask

__all__ = [
    "FisherSpectrum",
    "KroneckerCurvature",
    "diagonal_fisher",
    "discriminative_representation_loss",
    "edit_examples",
    "fisher_spectrum",
    "infer_tasks",
    "kronecker_fisher",
    "least_similar",
    "margin_loss",
    "multi_similarity_loss",
    "project_gradient",
    "project_orthogonally",
    "rho_spectrum",
    "supermask",
]
