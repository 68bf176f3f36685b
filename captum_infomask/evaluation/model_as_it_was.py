# Runs a method with a seed, and restores the whole model afterwards.
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from captum_infomask._process import in_turn, numbers_of_libraries, quiet
from captum_infomask.engines.reached import modules_reached
from captum_infomask.engines.untouched import modes_kept, same_values, untouched

# Captum warns about its changes to the model. We undo these in any case.
_TAKEN_BACK = (
    "Input Tensor . did not already require gradients",
    "Setting forward, backward hooks and attributes",
    "Setting backward hooks on ReLU activations",
)
_PATIENCE = 60.0  # seconds


@contextmanager
def as_it_was(*models: Callable[..., Any], seed: int, writes: bool = False) -> Iterator[None]:
    """Run code that may change a model in any way, and restore the model.

    Inside, random numbers come from ``seed``, and gradients can be taken. Afterwards, also after an
    error, every module that the models reach has its old attributes, layers, hooks, modes and
    gradients. If several threads run such code on the same modules, they run one at a time.

    Args:
        *models: Modules, or functions of them.
        seed: The seed of the draws.
        writes: Whether the code may write to parameters and to tensors that are attributes. Then
            their values are restored too, from a copy. Such code also has Python's and NumPy's
            generators for itself.

    Raises:
        RuntimeError: Another thread does not finish with the modules. It may be waiting for this
            thread.
    """
    modules = modules_reached(models)
    # ExitStack is not used: after an interrupt at its end, only the garbage collector closes the
    # rest.
    with quiet(*_TAKEN_BACK), modes_kept(), in_turn(map(id, modules), _PATIENCE) as is_alone:
        if not is_alone:
            raise RuntimeError(
                f"Another thread runs a function on the same network, and no such function has "
                f"ended for {_PATIENCE:.0f} s. They run one at a time: let none wait for another, "
                "or give it a copy.deepcopy of the network."
            )
        with (
            numbers_of_libraries(seed, alone=writes),
            torch.inference_mode(False),
            _put_back(modules, values=writes),
            untouched(models, seed),
            torch.enable_grad(),
        ):
            yield


@contextmanager
def _put_back(modules: list[nn.Module], *, values: bool) -> Iterator[None]:
    before: list[_Module | _Tensor] = [_Module(module) for module in modules]
    tensors = dict.fromkeys(tensor for module in modules for tensor in _tensors(module))
    before += [_Tensor(tensor, keep=values) for tensor in tensors]

    def put_back() -> None:
        with torch.no_grad():
            for each in before:
                each.put_back()

    try:
        for parameter in (p for m in modules for p in m.parameters(recurse=False)):
            parameter.grad = None
        yield
    finally:
        try:
            put_back()
        except BaseException:  # an interrupt must not stop the restoring
            put_back()
            raise


class _Module:
    """A module's attributes, and the content of plain containers among them."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.kind = module, type(module)
        self.training = getattr(module, "training", None)  # frozen TorchScript has no modes
        self.attributes: list[_Container] = []
        if not isinstance(module, torch.jit.ScriptModule):
            own = vars(module)
            self.attributes = [_Container(own, is_ordered=False)]
            self.attributes += [_Container(c) for c in own.values() if _is_plain(c)]

    def put_back(self) -> None:
        """Restore everything that has changed."""
        if type(self.module) is not self.kind:  # a parametrised module has its own class
            object.__setattr__(self.module, "__class__", self.kind)
        for container in self.attributes:
            container.put_back()
        if getattr(self.module, "training", None) != self.training:
            self.module.training = bool(self.training)


class _Container:
    """The content of a dict, list or set, which stays the same object."""

    def __init__(self, container: Any, *, is_ordered: bool = True) -> None:
        self.container, self.content = container, container.copy()
        self.is_ordered = is_ordered

    def put_back(self) -> None:
        """Restore only changed entries, because other threads may use the network."""
        now, before = self.container, self.content
        if not now and not before:
            return
        if isinstance(now, dict):
            for key in now.keys() - before.keys():
                del now[key]
            for key, value in before.items():
                if key not in now or now[key] is not value:
                    now[key] = value
            if self.is_ordered and list(now) != list(before):
                now.clear()
                now.update(before)
        elif isinstance(now, set):
            now.intersection_update(before)
            now.update(before)
        elif len(now) != len(before) or not all(map(_is, now, before)):
            now[:] = before


class _Tensor:
    """A tensor's memory, flags and hooks; also its values if they are kept.

    Values are kept in the CPU's memory: an accelerator may have no room for a second network.
    """

    def __init__(self, tensor: Tensor, *, keep: bool) -> None:
        self.tensor, self.is_leaf = tensor, tensor.is_leaf
        self.requires_grad = tensor.requires_grad
        self.grad = tensor.grad if self.is_leaf else None
        self.memory = tensor.detach()
        self.values = self.memory.to("cpu", copy=True) if keep and not tensor.is_meta else None
        self.hooks = {name: _hooks(tensor, name) for name in _TENSOR_HOOKS}

    def put_back(self) -> None:
        """Restore everything that has changed."""
        tensor = self.tensor
        if not _same_memory(tensor, self.memory):
            tensor.data = self.memory
        values = None if self.values is None else self.values.to(tensor.device)
        if values is not None and not same_values(tensor, values):
            with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                tensor.copy_(values)
        for name, (hooks, content) in self.hooks.items():
            now = getattr(tensor, name, None)
            if now is not hooks:
                (now or {}).clear()  # PyTorch 2.4 keeps using it, even if another one is set
                setattr(tensor, name, hooks)
            if content is not None:
                content.put_back()
        if self.is_leaf:
            if tensor.requires_grad != self.requires_grad:
                tensor.requires_grad_(self.requires_grad)
            tensor.grad = self.grad


_TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def _hooks(tensor: Tensor, name: str) -> tuple[Any, _Container | None]:
    hooks = getattr(tensor, name, None)
    return hooks, None if hooks is None else _Container(hooks)


def _tensors(module: nn.Module) -> list[Tensor]:
    """A module's parameters, buffers, and tensors in attributes, alone or in a container."""
    held = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    if not isinstance(module, torch.jit.ScriptModule):
        own = list(vars(module).values())
        held += [each for c in own if _is_plain(c) for each in _flat(c)] + own
    return [t for t in held if type(t) in (Tensor, nn.Parameter) and not is_lazy(t)]


def _is_plain(value: object) -> bool:
    return type(value) in (dict, OrderedDict, list, set)


def _flat(container: Any) -> list[Any]:
    if isinstance(container, dict):
        return [each for item in container.items() for each in item]
    return list(container)


def _is(one: object, other: object) -> bool:
    return one is other


def _same_memory(tensor: Tensor, memory: Tensor) -> bool:
    """Whether a tensor is still a view of the same memory, with the same shape and type."""
    if tensor.layout is not torch.strided or memory.layout is not torch.strided:
        return tensor.layout == memory.layout
    return (
        tensor.data_ptr() == memory.data_ptr()
        and tensor.shape == memory.shape
        and tensor.stride() == memory.stride()
        and tensor.dtype == memory.dtype
        and tensor.device == memory.device
    )
