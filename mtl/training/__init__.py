"""One training: `fit` trains or resumes a run; `load_network` gives its network."""

from mtl.training.fit import fit, load_network

__all__ = ["fit", "load_network"]
