"""The maths: tensors in, tensors out."""

from avalanche_ext.functional.losses import discriminative_representation_loss

__all__ = ["discriminative_representation_loss"]
