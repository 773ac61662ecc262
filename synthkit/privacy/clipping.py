"""Per-patient gradients of one backward pass: their norms, and their clipped sum.

Knows a module's layers, what went into each and what came back. Refuses to know the loss, the sample or
the noise. No gradient of a single patient is ever held for a linear layer: its norm and its share of the
sum both follow from the layer's inputs a and output gradients g, which an ordinary backward pass has at
hand. For several rows (or draws, or time steps) t of one patient the gradient is sum_t g_t a_t^T, so

    norm^2 = sum_{s,t} (g_s . g_t) (a_s . a_t)           sum over patients of c * gradient = (c g)^T a

Every other layer goes through Opacus' per-sample gradient of its kind, but for two that have a rule here:
transposed convolutions and embeddings of width 1.

Source: Goodfellow, arXiv 1510.01799 (norms from a and g); Li et al., arXiv 2110.05679, Section 4 (several
rows: ghost clipping); Bu et al., arXiv 2210.00038 (the sum without a second backward pass).
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from opacus.grad_sample import GradSampleModule
from opacus.validators import ModuleValidator
from torch import nn
from torch.nn import functional

CANCELLATION = 1e-5
"""Least norm, as a share of the sum of the rows' own norms, that a patient's gradient is taken to have.

Rows whose gradients cancel leave rounding errors that grow with the rows and not with what is left:
weights crafted for it could otherwise have a patient measured as small and summed as large."""


@dataclass(frozen=True, kw_only=True)
class _Use:
    """One call of a layer: its input and its output, the patients along the first dimension of both."""

    layer: nn.Module
    activations: torch.Tensor
    output: torch.Tensor


class PerPatientGradients:
    """Watches a module's layers and turns losses of patients into a clipped sum of gradients.

    Args:
        module: Every trainable parameter belongs to a layer that Opacus can differentiate for each
            patient, and no layer mixes patients.

    Raises:
        RuntimeError: A layer mixes patients (BatchNorm), or cannot be measured.
    """

    def __init__(self, module: nn.Module) -> None:
        flaws = ModuleValidator.validate(module, strict=False)
        layers = [layer for layer in module.modules() if any(p.requires_grad for p in _own(layer))]
        flaws += [layer for layer in layers if _sampler(layer) is None]
        if flaws:
            raise RuntimeError(f"a private step cannot be taken over this module: {flaws[0]!r}")
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self._uses: list[_Use] = []
        self._hooks = [layer.register_forward_hook(self._note) for layer in layers]

    def _note(self, layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if output.requires_grad:
            self._uses.append(_Use(layer=layer, activations=inputs[0].detach(), output=output))

    def forget(self) -> None:
        """Start over: what the layers saw before belongs to no loss that will be asked about."""
        self._uses = []

    def clipped_sum(self, losses: torch.Tensor, max_grad_norm: float) -> list[torch.Tensor]:
        """Sum over patients of their gradients, each scaled to a norm of at most `max_grad_norm`.

        A patient whose loss or gradient is not finite counts as zero. No clipping bounds a NaN: weights
        crafted so that one patient overflows would turn the whole sum into a noiseless answer about that
        patient. No layer mixes patients, so the others' gradients are what they are without it.

        Args:
            losses: Shape (batch,), computed since `forget`.
            max_grad_norm: C.

        Returns:
            One tensor per trainable parameter, in the module's order.
        """
        parts, norms = self._measured(losses)
        finite = torch.isfinite(norms) & torch.isfinite(losses.detach())
        coefficients = torch.where(finite, (max_grad_norm / (norms + 1e-6)).clamp(max=1.0), 0.0)
        sums: dict[torch.Tensor, torch.Tensor] = {}
        for part in parts:
            sums.update(part.weighted_sum(coefficients, None if bool(finite.all()) else finite))
        return [sums.get(p, torch.zeros_like(p)) for p in self.parameters]

    def norms(self, losses: torch.Tensor) -> torch.Tensor:
        """Norm of each patient's gradient, shape (batch,); `losses` as for `clipped_sum`. Private."""
        return self._measured(losses)[1]

    def _measured(self, losses: torch.Tensor) -> "tuple[list[_Linear | _Other], torch.Tensor]":
        """Every layer's calls, and each patient's norm over all of them, shape (batch,)."""
        uses, self._uses = self._uses, []
        backprops = torch.autograd.grad(losses.sum(), [use.output for use in uses], allow_unused=True)
        calls: dict[nn.Module, list[tuple[torch.Tensor, torch.Tensor]]] = defaultdict(list)
        for use, gradient in zip(uses, backprops, strict=True):
            if gradient is not None:
                calls[use.layer].append((use.activations, gradient))
        parts = [_part(layer, seen) for layer, seen in calls.items()]
        square = torch.stack([part.squared_norms() for part in parts]).sum(dim=0)  # (batch,)
        return parts, square.sqrt()

    def close(self) -> None:
        """Take the hooks off the module again."""
        for hook in self._hooks:
            hook.remove()


class _Linear:
    """All calls of one linear layer.

    Inputs a, shape (batch, rows, in), and output gradients g, shape (batch, rows, out).
    """

    def __init__(self, layer: nn.Linear, calls: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self.layer = layer
        self.a, self.g = (
            torch.cat([_with_rows(call[which]) for call in calls], dim=1)
            if len(calls) > 1
            else _with_rows(calls[0][which])
            for which in (0, 1)
        )

    def squared_norms(self) -> torch.Tensor:
        """Squared norm of each patient's gradient of weight and bias together, shape (batch,)."""
        own = self._squared(self.a) * self.g.square().sum(dim=2)  # (batch, rows): each row on its own
        if self.a.shape[1] == 1:
            return own[:, 0]
        if 2 * self.a.shape[1] ** 2 <= self.a.shape[2] * self.g.shape[2]:
            inputs = self._constant() + self._weight() * (self.a @ self.a.transpose(1, 2))
            square = (inputs * (self.g @ self.g.transpose(1, 2))).sum(dim=(1, 2))
        else:  # many rows and a small layer: the gradients themselves are smaller than the row products
            square = self._weight() * (self.g.transpose(1, 2) @ self.a).square().sum(dim=(1, 2))
            square = square + self._constant() * self.g.sum(dim=1).square().sum(dim=1)
        return torch.maximum(square, (CANCELLATION * own.sqrt().sum(dim=1)).square())

    def _squared(self, a: torch.Tensor) -> torch.Tensor:
        """Squared norm of each input, a constant 1 for the bias appended."""
        return self._constant() + self._weight() * a.square().sum(dim=2)

    def _weight(self) -> float:
        return float(self.layer.weight.requires_grad)

    def _constant(self) -> float:
        return float(self.layer.bias is not None and self.layer.bias.requires_grad)

    def weighted_sum(
        self, coefficients: torch.Tensor, finite: torch.Tensor | None
    ) -> dict[torch.Tensor, torch.Tensor]:
        """Sum over patients of coefficient times gradient."""
        a, g = (self.a, self.g) if finite is None else (_zeroed(self.a, finite), _zeroed(self.g, finite))
        scaled = (g * coefficients[:, None, None]).flatten(0, 1)
        sums: dict[torch.Tensor, torch.Tensor] = {}
        if self._weight():
            sums[self.layer.weight] = scaled.T @ a.flatten(0, 1)
        if self._constant():
            sums[self.layer.bias] = scaled.sum(dim=0)
        return sums


class _Other:
    """All calls of a layer of another kind; its gradients are held patient by patient."""

    def __init__(self, layer: nn.Module, calls: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        sampler = _sampler(layer)
        if sampler is None:
            raise RuntimeError("the layer cannot be measured for each patient")
        self.gradients: dict[torch.Tensor, torch.Tensor] = {}
        for activations, gradient in calls:
            for parameter, value in sampler(layer, [activations], gradient).items():
                if parameter.requires_grad:
                    held = self.gradients.get(parameter)
                    self.gradients[parameter] = value if held is None else held + value

    def squared_norms(self) -> torch.Tensor:
        """As in `_Linear`."""
        return torch.stack([v.flatten(1).square().sum(dim=1) for v in self.gradients.values()]).sum(dim=0)

    def weighted_sum(
        self, coefficients: torch.Tensor, finite: torch.Tensor | None
    ) -> dict[torch.Tensor, torch.Tensor]:
        """As in `_Linear`."""
        return {
            parameter: torch.einsum(
                "n,n...->...", coefficients, value if finite is None else _zeroed(value, finite)
            )
            for parameter, value in self.gradients.items()
        }


def _part(layer: nn.Module, calls: list[tuple[torch.Tensor, torch.Tensor]]) -> _Linear | _Other:
    return _Linear(layer, calls) if isinstance(layer, nn.Linear) else _Other(layer, calls)


Sampler = Callable[[nn.Module, list[torch.Tensor], torch.Tensor], Mapping[torch.Tensor, torch.Tensor]]


def _sampler(layer: nn.Module) -> Sampler | None:
    """Opacus' per-sample gradient of this kind of layer; None if it cannot be measured."""
    if isinstance(layer, nn.ConvTranspose1d):
        return _transposed if layer.groups == 1 else None
    if isinstance(layer, nn.Embedding) and layer.embedding_dim == 1:
        return _counted
    formula: Sampler | None = GradSampleModule.GRAD_SAMPLERS.get(type(layer))
    return formula


def _transposed(
    layer: nn.Module, activations: list[torch.Tensor], gradient: torch.Tensor
) -> Mapping[torch.Tensor, torch.Tensor]:
    """Of a transposed convolution, where input t reaches output t * stride + k * dilation - padding by W_k.

    Opacus has no formula for it. What it does instead copies the layer at each call, hooks and all that they
    hold, and keeps every copy.
    """
    if not isinstance(layer, nn.ConvTranspose1d):
        raise TypeError("a transposed convolution is expected")
    (stride,), (padding,), (dilation,), (size,) = (
        tuple(int(one) for one in what)
        for what in (layer.stride, layer.padding, layer.dilation, layer.kernel_size)
    )
    inputs = activations[0]  # (batch, in, places)
    reached = functional.pad(gradient, (padding, padding)).unfold(2, dilation * (size - 1) + 1, stride)
    reached = reached[:, :, : inputs.shape[2], ::dilation]  # (batch, out, places, size)
    found: dict[torch.Tensor, torch.Tensor] = {layer.weight: torch.einsum("bit,botk->biok", inputs, reached)}
    if layer.bias is not None:
        found[layer.bias] = gradient.sum(dim=2)
    return found


def _counted(
    layer: nn.Module, activations: list[torch.Tensor], gradient: torch.Tensor
) -> Mapping[torch.Tensor, torch.Tensor]:
    """Of an embedding of width 1: each patient's output gradients added up by state."""
    if not isinstance(layer, nn.Embedding):
        raise TypeError("an embedding is expected")
    states = activations[0].flatten(1)  # (batch, uses)
    first = torch.arange(len(states), device=states.device)[:, None] * layer.num_embeddings
    sums = torch.bincount(
        (states + first).flatten(), gradient.flatten(), minlength=len(states) * layer.num_embeddings
    )
    return {layer.weight: sums.to(gradient.dtype).view(len(states), layer.num_embeddings, 1)}


def _own(layer: nn.Module) -> list[nn.Parameter]:
    """Parameters of the layer itself, not of the layers within."""
    return list(layer.parameters(recurse=False))


def _with_rows(tensor: torch.Tensor) -> torch.Tensor:
    """(batch, ..., features) as (batch, rows, features)."""
    return tensor.reshape(tensor.shape[0], -1, tensor.shape[-1])


def _zeroed(tensor: torch.Tensor, finite: torch.Tensor) -> torch.Tensor:
    """The tensor with the patients that are not finite set to zero."""
    return torch.where(finite.reshape(-1, *[1] * (tensor.dim() - 1)), tensor, 0.0)
