"""The maths: tensors in, tensors out."""

from avalanche_ext.functional.editing import edit_examples
from avalanche_ext.functional.losses import discriminative_representation_loss
from avalanche_ext.functional.projection import project_gradient

__all__ = ["discriminative_representation_loss", "edit_examples", "project_gradient"]
