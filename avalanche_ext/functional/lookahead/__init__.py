"""One SGD step ahead of a model: editing (GMED), interference (MIR) and anchors (HAL)."""
