"""Several GPUs on a machine that has none: every tensor says where it is, and meeting another one's is an error.

with several_gpus():
    place(model, {"model.layers.1": 1, ...})

Numbers are real: a tensor "on" a GPU holds one of the CPU, which computes. What a GPU's kernels do differently is not
seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from unittest import mock

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

AUTOCAST = torch.autocast
MOVES = ("aten::_to_copy", "aten::copy_", "aten::_local_scalar_dense", "aten::lift_fresh")
KIND = "lazy"
"""The only kind of device besides the CPU that this build of torch has a guard for, which indexing asks for."""

TAKE_CPU_INDICES = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")


class OtherDeviceError(Exception):
    """Tensors of several devices met."""


class Placed(torch.Tensor):
    """A tensor of the CPU that says that it is elsewhere."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor, device: torch.device) -> Placed:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=device,
        )

    def __init__(self, held: torch.Tensor, device: torch.device) -> None:
        del device
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def tolist(self):
        return self.held.tolist()

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def __deepcopy__(self, memo):
        return Placed(self.held.clone(), self.device)


class _Factories(TorchDispatchMode):
    """Tensors that are made of no other, such as `torch.zeros(3, device=...)`."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func, args, kwargs):
    leaves = list(_leaves((*args, *kwargs.values())))
    named = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
    given = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    device = named[0] if named else _common(func.name(), given)
    held_args, held_kwargs = _held(args), {name: _held(value) for name, value in kwargs.items()}
    if func.name() == "aten::histc":  # counts whole numbers on GPUs alone
        held_args = (held_args[0].float(), *held_args[1:])
    result = func(*held_args, **held_kwargs)
    if device.type != KIND:
        return result
    with torch.inference_mode(False):  # a view of a weight, say, is none of inference either
        return _placed(result, device)


def _leaves(value):
    """What stands in tuples and lists, which is all that operators are given and give. Torch's trees are slow."""
    if isinstance(value, tuple | list):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _held(value):
    if isinstance(value, Placed):
        return value.held
    if isinstance(value, tuple | list):
        return type(value)(map(_held, value))
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _placed(value, device: torch.device):
    if isinstance(value, tuple | list):
        return type(value)(_placed(part, device) for part in value)
    return Placed(value, device) if type(value) is torch.Tensor else value


def _common(name: str, tensors: list[torch.Tensor]) -> torch.device:
    """Of all tensors, by torch's own rules."""
    if not tensors:
        return torch.device("cpu")
    name = name.partition(".")[0]
    if name in MOVES or not any(isinstance(tensor, Placed) for tensor in tensors):
        return tensors[0].device
    first = next(tensor.device for tensor in tensors if isinstance(tensor, Placed))
    for place, tensor in enumerate(tensors):
        is_allowed = tensor.device.type == "cpu" and (tensor.ndim == 0 or (name in TAKE_CPU_INDICES and place > 0))
        if tensor.device != first and not is_allowed:
            raise OtherDeviceError(f"{name}: {[(tuple(one.shape), str(one.device)) for one in tensors]}")
    return first


def _autocast(kind: str, **arguments):
    return AUTOCAST("cpu" if kind == KIND else kind, **arguments)


@contextmanager
def several_gpus() -> Generator[None]:
    """`lazy:0`, `lazy:1` and so on exist while the context lasts."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # what `torch.tensor(..., device=...)` reads is then made on the CPU
    try:
        with mock.patch.object(torch, "autocast", _autocast), _Factories():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


def place(model: nn.Module, device_map: Mapping[str, int]) -> nn.Module:
    """Put the weights where the map says, and let accelerate move what passes between them as for `from_pretrained`."""
    from accelerate import dispatch_model

    moved: dict[int, torch.Tensor] = {}
    for name, module in model.named_modules():
        for tensors in (module._parameters, module._buffers):
            for own, tensor in tensors.items():
                if tensor is None:
                    continue
                path = f"{name}.{own}" if name else own
                gpu = next(gpu for part, gpu in device_map.items() if path == part or path.startswith(part + "."))
                if id(tensor) not in moved:
                    elsewhere = Placed(tensor.data, torch.device(KIND, gpu))
                    is_weight = tensors is module._parameters
                    moved[id(tensor)] = nn.Parameter(elsewhere, requires_grad=False) if is_weight else elsewhere
                tensors[own] = moved[id(tensor)]
    devices = {part: torch.device(KIND, gpu) for part, gpu in device_map.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The following device_map keys do not match any submodules")  # parameters
        return dispatch_model(
            model, devices, main_device=torch.device(KIND, 0), skip_keys=model._skip_keys_device_placement
        )
