"""The cross-stitch unit against the supplement's equation (1), by hand."""

import pytest
import torch

from mtl.networks.multi_column import CrossStitch
from tests.networks.building import network

TWO = {"depth": 1, "segmentation": 5}


@pytest.mark.parametrize(
    ("num_tasks", "self_weight", "expected"),
    [
        (3, 0.9, [[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]]),  # NYUv2
        (4, 0.25, [[0.25] * 4] * 4),  # Taskonomy, 4 tasks
        (8, 0.125, [[0.125] * 8] * 8),  # Taskonomy, 8 tasks
        (2, 1.0, [[1, 0], [0, 1]]),
        (1, 0.9, [[1]]),
    ],
)
def test_matrix_starts_as_in_the_supplement(num_tasks, self_weight, expected):
    matrix = CrossStitch(num_tasks, self_weight).matrix
    torch.testing.assert_close(matrix.detach(), torch.tensor(expected, dtype=torch.float32))
    assert matrix.requires_grad


def test_outputs_and_gradients_by_hand():
    unit = CrossStitch(2, 0.75)
    with torch.no_grad():
        unit.matrix.copy_(torch.tensor([[2.0, 3.0], [5.0, 7.0]]))
    # Two maps of one image, two channels and one pixel.
    first = torch.tensor([1.0, 10.0]).reshape(1, 2, 1, 1)
    second = torch.tensor([0.5, -1.0]).reshape(1, 2, 1, 1)
    x1, x2 = unit([first, second])
    # x1 = 2 (1, 10) + 3 (0.5, -1) = (3.5, 17); x2 = 5 (1, 10) + 7 (0.5, -1) = (8.5, 43).
    assert x1.shape == x2.shape == (1, 2, 1, 1)
    assert x1.flatten().tolist() == [3.5, 17.0]
    assert x2.flatten().tolist() == [8.5, 43.0]
    x2.sum().backward()
    # d sum(x2) / d alpha_2j = sum(x_j): 11 and -0.5; row 1 plays no part.
    assert unit.matrix.grad.tolist() == [[0.0, 0.0], [11.0, -0.5]]


def test_every_pixel_of_every_image_is_mixed_alike():
    unit = CrossStitch(3, 0.9)
    maps = [torch.rand(2, 5, 3, 4).to(memory_format=torch.channels_last) for _ in range(3)]
    for i, mixed in enumerate(unit(maps)):
        expected = sum(unit.matrix[i, j] * maps[j] for j in range(3))
        torch.testing.assert_close(mixed, expected)


def test_network_shows_a_copy_of_its_matrix():
    net = network("multi_column", TWO, cross_stitch_own_share=0.7)
    shown = net.cross_stitch_matrix()
    torch.testing.assert_close(shown, torch.tensor([[0.7, 0.3], [0.3, 0.7]]))
    assert not shown.requires_grad
    shown.zero_()
    assert net.cross_stitch_matrix().sum() == pytest.approx(2)
    assert network("multi_decoder").cross_stitch_matrix() is None


def test_columns_that_share_nothing_are_single_tasks():
    images = torch.rand(2, 3, 32, 32)
    columns = network("multi_column", TWO, cross_stitch_own_share=1.0)(images)
    alone = network("single_task", TWO)(images)
    for task in TWO:
        torch.testing.assert_close(columns[task], alone[task])
