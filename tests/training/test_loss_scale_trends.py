"""The trend of Figure S-2: which methods bring the loss scales of three tasks together."""

from pathlib import Path

import pytest

from mtl.spec import Runtime
from tests.training.runs import records_of, tiny


def spreads(method: str, options: dict, runtime: Runtime, folder: Path) -> list[float]:
    """Return largest over smallest loss scale in each epoch of a small training on scenes."""
    spec = tiny(
        tasks=["depth", "normal", "segmentation"],
        method=method,
        method_options=options,
        epochs=10,
        batch_size=8,
        data={"height": 48, "width": 64, "num_train": 64, "num_validation": 4, "num_test": 4},
        network={"decoder_widths": [64, 48, 32, 24, 16, 8]},
        optimizer={"learning_rate": 2.5e-3, "warmup_share": 0.1},
    )
    found = []
    for record in records_of(spec, runtime, folder):
        scales = [scale for scale in record.loss_scales or () if scale is not None]
        found.append(max(scales) / min(scales))
    print(method, [round(spread, 2) for spread in found])
    return found


@pytest.mark.slow
def test_lsb_equalises_loss_scales_fast_uncertainty_slowly_equal_never(runtime, tmp_path):
    # One training of about 3 s a method, seed 0; the supplement's section 5 in small. The weights
    # of uncertainty weighting learn at 1e-2, a hundred times the supplement's rate, so that 80
    # steps show a tendency at all.
    lsb = spreads("lsb", {"increase_rate": 0.02}, runtime, tmp_path)
    learnt = spreads("uncertainty", {"weight_lr": 1e-2}, runtime, tmp_path)
    equal = spreads("equal", {}, runtime, tmp_path)
    # LSB: the losses move fast in the first periods, whose weights rest on older means; once they
    # move slowly the scales lie together.
    assert max(lsb[5:]) < 1.25
    assert lsb[-1] < 1.1
    # Equal weighting: the loss that falls least stays on top, here more and more.
    assert min(equal[4:]) > 3
    assert equal[-1] > equal[0]
    # Uncertainty: nearer together than equal weighting at the end, never where LSB is.
    assert learnt[-1] < 0.95 * equal[-1]
    assert min(learnt[5:]) > 2 * max(lsb[5:])
    assert learnt[-1] == pytest.approx(min(learnt[5:]), rel=0.05)  # and still coming down
