"""Semantic segmentation: equations (7) and (8) of the supplement."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from mtl.data.sample import DataInfo
from mtl.errors import UsageError
from mtl.tasks.base import ErrorMap, Task, Valid, counts, masked_mean, masked_total

MAX_LOGIT = 10.0
"""f_max of the supplement's equation (8)."""

NO_CLASS = torch.iinfo(torch.int64).min
"""What torch may ignore of the classes: no number that a target holds."""

Scores = Float[Tensor, "batch classes height width"]
Classes = Int[Tensor, "batch height width"]


class Segmentation(Task):
    """Cross-entropy, and a regulariser that keeps the scores small."""

    def error_map(self, prediction: Scores, target: Classes, info: DataInfo) -> ErrorMap:
        """Return -log of the probability given to the target class, in nats, equation (7).

        Raises:
            ValueError: on the CPU, for a class that the prediction does not have; on a GPU the
                check would wait for the device in each step (prepared data are checked beforehand).
        """
        return _cross_entropy(torch.log_softmax(prediction, dim=1), target)

    def regularizer(
        self, prediction: Scores, target: Classes, valid: Valid, info: DataInfo
    ) -> Float[Tensor, ""]:
        """Return the mean of the sum over classes of max(|f^|, 10) - 10, equation (8)."""
        excess = (prediction.abs().clamp(min=MAX_LOGIT) - MAX_LOGIT).sum(dim=1)
        return masked_mean(excess, valid)

    def _loss_with_regularizer(
        self, prediction: Scores, target: Classes, valid: Valid, info: DataInfo
    ) -> Float[Tensor, ""]:
        """Return the whole loss at once: the scores are by far the largest of all predictions."""
        del info
        loss: Tensor = _Loss.apply(prediction, target, valid)
        return loss

    def prior(self, targets: Tensor, valid: Valid, info: DataInfo) -> Tensor:
        """Return how many images have each class at a pixel: scores whose maximum is the mode."""
        counts = [((targets == c) & valid).sum(dim=0) for c in range(len(info.classes))]
        return torch.stack(counts)[None].float()

    def readable(self, prediction: Float[Tensor, "classes height width"]) -> Tensor:
        """Return the classes, uint8 (height, width)."""
        return prediction.argmax(0).to(torch.uint8)

    def sums(
        self, prediction: Scores, target: Classes, valid: Valid, info: DataInfo
    ) -> list[Tensor]:
        """Return the confusion matrix, and sums; the highest score wins."""
        batch, classes = len(valid), len(info.classes)
        prediction = prediction.contiguous()  # for the highest score and the softmax
        known = torch.where(valid, target, torch.zeros_like(target)).long()
        image = torch.arange(batch, device=valid.device)[:, None, None]
        # max and its place: on the CPU argmax over channels takes four times as long.
        cell = (image * classes + known) * classes + prediction.max(dim=1).indices
        per_image = counts(cell, valid, batch * classes**2).reshape(batch, classes, classes)
        has_pixels = valid.flatten(1).any(dim=1)
        sums = [
            masked_total(self.error_map(prediction, known, info), valid),
            _mean_ious(per_image.double()).sum(),
            has_pixels.double().sum(),
        ]
        return [per_image.sum(dim=0), torch.stack(sums)]

    def ratios(self, *totals: Tensor) -> dict[str, float | None] | None:
        """Return miou and accuracy from the confusion matrix, and miou image by image.

        A class that neither occurs nor is predicted, in the split or the image, does not count.
        """
        confusion = totals[0].double()
        count = float(confusion.sum())
        if count == 0:
            return None
        hits = confusion.diagonal()
        unions = confusion.sum(0) + confusion.sum(1) - hits
        occurring = unions > 0
        entropy, iou, num_images = totals[1].tolist()
        return {
            "miou": float((hits[occurring] / unions[occurring]).mean()),
            "pixel_accuracy": float(hits.sum() / confusion.sum()),
            "cross_entropy": entropy / count,
            "miou_per_image": iou / num_images,
        }


def _cross_entropy(log_shares: Scores, target: Classes) -> ErrorMap:
    try:
        return functional.nll_loss(log_shares, target, reduction="none", ignore_index=NO_CLASS)
    except IndexError as error:
        least, most = (int(x) for x in target.aminmax())
        raise UsageError(
            f"Expected classes from 0 to {log_shares.shape[1] - 1}, got "
            f"{most if least >= 0 else least}. Mark such pixels as not valid, or give the "
            "prediction more classes."
        ) from error


class _Loss(torch.autograd.Function):
    """Mean of `error_map` plus `regularizer`, with the gradient written out.

    With respect to the scores f it is softmax(f) - onehot(target), plus sign(f) where |f| > 10,
    over the number of valid pixels. Autograd would take some twenty passes over the scores; these
    are ten.
    """

    @staticmethod
    def forward(ctx: Any, prediction: Scores, target: Classes, valid: Valid) -> Tensor:
        prediction = prediction.contiguous()
        log_shares = torch.log_softmax(prediction, dim=1)
        excess = functional.softshrink(prediction, MAX_LOGIT)
        count = valid.sum().clamp(min=1)
        ctx.save_for_backward(log_shares, excess, target, valid, count)
        errors = _cross_entropy(log_shares, target) + excess.abs().sum(dim=1)
        return torch.where(valid, errors, 0.0).sum() / count

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None]:
        log_shares, excess, target, valid, count = ctx.saved_tensors
        gradient = log_shares.exp().add_(excess.sign())
        ones = torch.ones_like(target, dtype=gradient.dtype)
        gradient.scatter_add_(1, target[:, None], -ones[:, None])
        factor = torch.where(valid, outputs[0] / count, 0.0)[:, None]
        # A where, not a product: what stands in invalid pixels may be NaN.
        return torch.where(valid[:, None], gradient.mul_(factor), 0.0), None, None


def _mean_ious(confusion: Float[Tensor, "batch classes classes"]) -> Float[Tensor, " batch"]:
    """Return each image's mean IoU over the classes that occur in it, 0 where none does."""
    hits = confusion.diagonal(dim1=1, dim2=2)
    unions = confusion.sum(dim=1) + confusion.sum(dim=2) - hits
    return (hits / unions.clamp(min=1)).sum(dim=1) / (unions > 0).sum(dim=1).clamp(min=1)
