"""A row of weights by hand for each of our own methods."""

import pytest
import torch

from mtl.spec.methods import METHODS, OWN_METHODS
from mtl.weighting import build_weighting
from tests.weighting.problems import F64, run

# One row a method: weights in force in periods 1 to 4 for the losses below, by hand. One step a
# period; where weights depend on the losses of a call, those of the last call.
#   l1 = (1, 4), l2 = (0.5, 4), l3 = (0.4, 1); priorities p = (1/4, 3/4); gradients at W: the rows
#   of the unit matrix, so of norms (1, 4), (0.5, 4), (0.4, 1)
# Adam after gradients g1, g2, ...: m = 0.9 m + 0.1 g, v = 0.999 v + 0.001 g^2,
#   change = -lr (m / (1 - 0.9^t)) / sqrt(v / (1 - 0.999^t)); the first is -lr sign(g).
GOLDEN_LOSSES = torch.tensor([[[1.0, 4.0]], [[0.5, 4.0]], [[0.4, 1.0]]], dtype=F64)
GOLDEN_OPTIONS: dict[str, dict[str, float]] = {
    "lsb": {"increase_rate": 0.5},
    "uncertainty": {"weight_lr": 0.5},
    "imtl_l": {"weight_lr": 0.5},
    "dwa": {"temperature": 0.5},
    "gradnorm": {"alpha": 0.5, "weight_lr": 0.1},
    "stch": {"mu": 0.5},
}
GOLDEN = {
    "equal": [(0.5, 0.5)] * 4,
    "fixed": [(0.25, 0.75)] * 4,
    # Before any loss p; then (1/4 / 1, 3/4 / 4) / (7/16) = (4/7, 3/7), from the first step on.
    "scaled_fixed": [(0.25, 0.75), *[(4 / 7, 3 / 7)] * 3],
    # t = 1: (1/4, 3/4).
    #   L1 = 1/4 + 3 = 3.25; t = 2: (1/4 * 3.25 / 1, 3/4 * 3.25 / 4) = (0.8125, 0.609375)
    #   L2 = 0.8125 * 0.5 + 0.609375 * 4 = 2.84375; beta_3 = 0.5 * 2 = 1; ratios (1/2, 1)
    #   alpha D pi = (1/8, 3/4) / (7/8) = (1/7, 6/7)
    #   t = 3: (2.84375 / 7 / 0.5, 6 * 2.84375 / 7 / 4) = (0.8125, 0.609375): D halved what l halved
    #   L3 = 0.8125 * 0.4 + 0.609375 * 1 = 0.934375; beta_4 = 1.5; ratios (0.8, 0.25)
    #   D ~ (0.8^1.5, 0.25^1.5) = (0.715541753, 0.125); pi D = (0.178885438, 0.09375)
    #   shares = (0.178885438, 0.09375) / 0.272635438 = (0.656134, 0.343866)
    #   t = 4: (0.656134 * 0.934375 / 0.4, 0.343866 * 0.934375 / 1) = (1.532688, 0.321300)
    "lsb": [(0.25, 0.75), (0.8125, 0.609375), (0.8125, 0.609375), (1.532688, 0.321300)],
    # r = (0.5, 1), over T: (1, 2): 1 / (1 + e) = 0.268941.
    # r = (0.8, 0.25), over T: (1.6, 0.5): 1 / (1 + e^-1.1) = 0.750260.
    "dwa": [(0.5, 0.5), (0.5, 0.5), (0.268941, 0.731059), (0.750260, 0.249740)],
    # G = 2: (2 / 2, 2 / 8); G = 1.414214: (G / 1, G / 8); G = 0.632456: (G / 0.8, G / 2).
    "gls": [(0.5, 0.5), (1.0, 0.25), (1.414214, 0.176777), (0.790569, 0.316228)],
    # n p softmax(p l / mu), exponents (0.5, 6), (0.25, 6), (0.2, 1.5):
    #   1 / (1 + e^5.5) = 0.00407014: (0.5 * 0.00407014, 1.5 * 0.99592986)
    #   1 / (1 + e^5.75) = 0.00317268: (0.5 * 0.00317268, 1.5 * 0.99682732)
    #   1 / (1 + e^1.3) = 0.21416502: (0.5 * 0.21416502, 1.5 * 0.78583498)
    "stch": [(0.25, 0.75), (0.002035, 1.493895), (0.001586, 1.495241), (0.107083, 1.178752)],
    # w = e^-s / 2, s = (0, 0); dL/ds = 1/2 - w l.
    #   g1 = (0, -1.5): s = (0, 0.5), w = (0.5, 0.303265)
    #   g2 = (0.25, -0.713061). Task 1: m = 0.025, v = 6.25e-5: 0.131579 / sqrt(0.031266), change
    #   -0.372068. Task 2: m = -0.206306, v = 0.002756: -1.085822 / sqrt(1.378793), +0.462359.
    #   s = (-0.372068, 0.962359), w = (0.725366, 0.190995)
    #   g3 = (0.209854, 0.309005): 0.160463 / sqrt(0.035528) and -0.571126 / sqrt(0.950595)
    #   s = (-0.797727, 1.255248), w = (1.110244, 0.142503)
    "uncertainty": [(0.5, 0.5), (0.5, 0.303265), (0.725366, 0.190995), (1.110244, 0.142503)],
    # w = e^s, s = -log 2; dL/ds = w l - 1.
    #   g1 = (-0.5, 1): s = (-0.193147, -1.193147), w = (0.824361, 0.303265)
    #   g2 = (-0.587820, 0.213061): -0.546221 / sqrt(0.297790) and 0.585822 / sqrt(0.522459)
    #   s = (0.307329, -1.598385), w = (1.359788, 0.202223)
    #   g3 = (-0.456085, -0.797777): -0.512960 / sqrt(0.267834) and 0.075269 / sqrt(0.560493)
    #   s = (0.802917, -1.648653), w = (2.232042, 0.192309)
    "imtl_l": [(0.5, 0.5), (0.824361, 0.303265), (1.359788, 0.202223), (2.232042, 0.192309)],
    # t = 1: G = (0.5, 2), mean 1.25, rates (1, 1): g = (-1, 4), w = (0.5 + 0.1, 0.5 - 0.1).
    # t = 2: G = (0.3, 1.6), mean 0.95; l / l(0) = (1/2, 1), rates (2/3, 4/3), targets
    #   0.95 (2/3)^0.5 = 0.776 and 0.95 (4/3)^0.5 = 1.097: g = (-0.5, 4)
    #   task 1: m = -0.14, v = 0.001249: -0.736842 / sqrt(0.624812) = -0.932179; task 2: 1
    #   w = (0.693218, 0.3) / 0.993218 = (0.697951, 0.302049)
    # t = 3: G = (0.279181, 0.302049), mean 0.290615; l / l(0) = (0.4, 0.25), rates (16/13, 10/13),
    #   targets 0.322410 and 0.254886: g = (-0.4, 1)
    #   task 1: m = -0.166, v = 0.00140775: -0.612546 / sqrt(0.469720) = -0.893756
    #   task 2: m = 0.784, v = 0.03295202: 2.892989 / sqrt(10.994996) = 0.872468
    #   w = (0.787327, 0.214802) / 1.002129 = (0.785654, 0.214346)
    "gradnorm": [(0.5, 0.5), (0.6, 0.4), (0.697951, 0.302049), (0.785654, 0.214346)],
    # softmax of the numbers that the streams of seed 0 give, as recorded: no resumed or repeated
    # run may ever draw others.
    "rlw": [(0.5, 0.5), (0.0955, 0.9045), (0.4813, 0.5187), (0.6471, 0.3529)],
}


@pytest.mark.parametrize("method", sorted(OWN_METHODS))
def test_golden_weights(method: str) -> None:
    weighting = build_weighting(
        method,
        ("a", "b"),
        (0.25, 0.75) if METHODS[method].takes_priorities else None,
        loss_kinds={"a": "regression", "b": "regression"},
        **GOLDEN_OPTIONS.get(method, {}),
    )
    weights = [weighting.weights, *run(weighting, GOLDEN_LOSSES, torch.eye(2, dtype=F64))]
    tolerance = 5e-5 if method == "rlw" else 2e-6
    for got, expected in zip(weights, GOLDEN[method], strict=True):
        assert got.tolist() == pytest.approx(expected, abs=tolerance)
