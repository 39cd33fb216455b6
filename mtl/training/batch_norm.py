"""Batch norm over the images of all ranks, on any device.

`torch.nn.SyncBatchNorm` has no CPU, and takes the place of modules, which timm's subclasses do not
survive. Here a network stays as it is, and with it its state and what is exported from it: while
`batch_norm_over_ranks` is in force, `torch.nn.functional.batch_norm`, which they all call, takes
its statistics over the ranks.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mtl.training.ranks import Ranks


@contextlib.contextmanager
def batch_norm_over_ranks(ranks: Ranks, num_images: int, num_whole: int) -> Iterator[None]:
    """Let batch norm in training mode see a part of a batch that is spread over ranks.

    Args:
        ranks: that train it.
        num_images: of this rank's share.
        num_whole: of all shares; as many as this rank's if each rank trains all of them.
    """
    if not ranks.are_several or num_images == num_whole:
        yield
        return
    with _OverRanks(ranks, num_images, num_whole):
        yield


class _OverRanks(TorchFunctionMode):
    def __init__(self, ranks: Ranks, num_images: int, num_whole: int) -> None:
        super().__init__()
        self._ranks, self._num_images, self._num_whole = ranks, num_images, num_whole

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is functional.batch_norm:
            return self._batch_norm(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _batch_norm(
        self,
        values: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """Normalise (batch, channels, ...) as `functional.batch_norm` would the whole batch."""
        if not training:
            return functional.batch_norm(
                values, running_mean, running_var, weight, bias, False, momentum, eps
            )
        here = values.numel() // values.shape[1]
        # Each image has as many values a channel.
        count = here * self._num_whole // self._num_images
        if count == 1:
            raise ValueError("Expected more than 1 value per channel when training")
        with torch.no_grad():
            mean, var = self._statistics(values, here, count)
            if running_mean is not None and running_var is not None:
                running_mean.lerp_(mean.to(running_mean), momentum)
                unbiased = var * (count / (count - 1))
                running_var.lerp_(unbiased.to(running_var), momentum)
        if weight is None:
            weight = torch.ones_like(mean)
        if bias is None:
            bias = torch.zeros_like(mean)
        normalised: Tensor = _Normalised.apply(
            values, weight, bias, mean, var, eps, count, self._ranks
        )
        return normalised

    def _statistics(self, values: Tensor, here: int, count: int) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance of each channel, in one all-reduce."""
        var, mean = torch.var_mean(values.float(), dim=_but_channels(values), correction=0)
        share = here / count
        # All ranks' means, each in a row of its own: the variance is that around their mean.
        rows = mean.new_zeros(self._ranks.number, 2, len(mean))
        rows[self._ranks.rank] = torch.stack([mean, var])
        shares = mean.new_zeros(self._ranks.number, 1)
        shares[self._ranks.rank] = share
        found = self._ranks.sum(torch.cat([rows.flatten(1), shares], dim=1))
        means, variances = found[:, :-1].unflatten(1, (2, -1)).unbind(1)
        shares = found[:, -1:]
        whole = (shares * means).sum(0)
        return whole, (shares * (variances + (means - whole).square())).sum(0)


class _Normalised(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, where mean and var follow from all ranks' x.

    The gradient at x is that of the sum of all ranks' losses; those at weight and bias are of this
    rank's loss, since gradients of parameters are averaged later.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        var: Tensor,
        eps: float,
        count: int,
        ranks: Ranks,
    ) -> Tensor:
        ctx.save_for_backward(values, weight, mean, var)
        ctx.eps, ctx.count, ctx.ranks = eps, count, ranks
        return functional.batch_norm(values, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        values, weight, mean, var = ctx.saved_tensors
        dims, gradient = _but_channels(values), outputs[0].float()
        scale = (var + ctx.eps).rsqrt()
        normalised = (values.float() - _row(mean, values)) * _row(scale, values)
        sums = torch.stack([gradient.sum(dims), (gradient * normalised).sum(dims)])
        of_bias, of_weight = sums
        means = ctx.ranks.sum(sums) / ctx.count
        inner = gradient - _row(means[0], values) - normalised * _row(means[1], values)
        of_values = inner * _row(weight.float() * scale, values)
        return (
            of_values.to(values),
            of_weight.to(weight),
            of_bias.to(weight),
            *(None,) * 5,
        )


def _but_channels(values: Tensor) -> list[int]:
    return [dim for dim in range(values.ndim) if dim != 1]


def _row(of_channels: Tensor, values: Tensor) -> Tensor:
    """Return a number a channel in the shape that broadcasts over `values`."""
    return of_channels.reshape(1, -1, *[1] * (values.ndim - 2))
