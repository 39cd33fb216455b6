"""Fixed weighting: the weights that the user gave, unchanged for the whole training."""

from torch import Tensor

from mtl.weighting.base import Prioritised


class Fixed(Prioritised):
    """The rival of the supplement's Figure S-6: overall loss = sum of w_i l_i.

    The priorities are the weights w.
    """

    @property
    def weights(self) -> Tensor:
        """The given weights; float64, shape (num_tasks,)."""
        return self.priorities.clone()
