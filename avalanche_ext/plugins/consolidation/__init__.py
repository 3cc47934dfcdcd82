"""Methods that keep parameters in place by a quadratic penalty: EWC, MAS and SI."""
