"""Gradients of single task losses, out of the vector of them that training hands over."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge


def trainable(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Return the parameters that take gradients."""
    return [p for p in parameters if p.requires_grad]


def task_roots(losses: Float[Tensor, " tasks"]) -> list[Tensor | GradientEdge]:
    """Return where the graph of each task's loss begins, one root a task.

    The gradient of `losses[i]` would run through the graphs of all tasks, with zeros for the
    others (and a NaN in an absent task's graph would spread). Where `losses` is a fresh
    `torch.stack`, the graph of each loss before the stack is known and is taken instead; else
    `losses[i]`, which is right and slower.
    """
    node = losses.grad_fn
    if node is not None and type(node).__name__ == "StackBackward0":
        edges = node.next_functions
        if len(edges) == len(losses):
            return [
                losses[i].detach() if before is None else GradientEdge(before, output)
                for i, (before, output) in enumerate(edges)
            ]
    return list(losses)


def gradients(
    root: Tensor | GradientEdge,
    parameters: Sequence[nn.Parameter],
    factor: Float[Tensor, ""],
    retain_graph: bool,
) -> list[Tensor]:
    """Return factor x gradient of one task's loss for each parameter; zeros where it has none."""
    found = raw_gradients(root, parameters, factor, retain_graph)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def raw_gradients(
    root: Tensor | GradientEdge,
    parameters: Sequence[nn.Parameter],
    factor: Float[Tensor, ""],
    retain_graph: bool,
) -> Sequence[Tensor | None]:
    """Return factor x gradient of one task's loss; None for parameters not in its graph.

    Args:
        root: of `task_roots`.
        parameters: that take gradients.
        factor: of the type and on the device of the losses.
        retain_graph: False frees the graph behind the root.
    """
    if not parameters or (isinstance(root, Tensor) and not root.requires_grad):
        return [None for _ in parameters]
    return torch.autograd.grad(
        root,
        parameters,
        grad_outputs=factor,
        retain_graph=retain_graph,
        allow_unused=True,
    )


def left_out(losses: Float[Tensor, " tasks"], listed: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Return the parameters that the losses depend on and that are not in `listed`."""
    known = {id(parameter) for parameter in listed}
    found = []
    nodes, seen = [losses.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if isinstance(variable, nn.Parameter) and id(variable) not in known:
            found.append(variable)
        nodes.extend(before for before, _ in node.next_functions)
    return found
