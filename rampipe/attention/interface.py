"""Put an observer behind entries of transformers' attention registry, under the names that they have.

The same name, because masks and some models' code paths are chosen by it: a new name would lose them in silence.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rampipe.attention.call import AttentionCall, read_call
from rampipe.attention.kernel_watch import KernelWatch
from rampipe.errors import ModelError

AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]
Observer = Callable[[nn.Module, AttentionCall], None]
"""Called after the kernel with what the kernel was given. It must change nothing."""

EAGER_NAME = "eager_attention_forward"
FLASH_PREFIX = "flash_attention"


class ObservedAttention:
    """The function behind a registry name, plus an observer for the modules of one decoder; all others pass through."""

    is_observable = False

    def __init__(
        self, implementation: str, *, decoder: nn.Module, observer: Observer, needs_log_total: bool = False
    ) -> None:
        self.implementation = implementation
        self.prior: AttentionFunction | None = ALL_ATTENTION_FUNCTIONS.get(implementation)
        self.modules = frozenset(decoder.modules())
        self.observer = observer
        self.needs_log_total = needs_log_total

    def __call__(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: object = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """What the kernel returns, untouched."""
        attend = self.prior if self.prior is not None else own_eager_function(module)
        if module not in self.modules:
            return attend(module, query, key, value, attention_mask, **kwargs)
        with KernelWatch() if self.needs_log_total else nullcontext() as watch:
            result = attend(module, query, key, value, attention_mask, **kwargs)
        call = read_call(module, self.implementation, query=query, key=key, mask=attention_mask, arguments=kwargs)
        self.observer(module, call if watch is None else replace(call, log_total=watch.log_total(query)))
        return result


def own_eager_function(module: nn.Module) -> AttentionFunction:
    """The eager function that the forward of `module` names: eager has no registry entry, every file has its own.

    Raises ModelError when the forward names none, or several.
    """
    forward = inspect.unwrap(type(module).forward)
    names = [name for name in forward.__code__.co_names if name.endswith(EAGER_NAME) and name in forward.__globals__]
    if len(names) != 1:
        raise ModelError(
            f"{type(module).__name__}.forward names {len(names)} functions *{EAGER_NAME}; needed: one, to fall back on "
            "while attention is observed. Load the model with attn_implementation='sdpa'."
        )
    return forward.__globals__[names[0]]


@contextmanager
def observe_attention(decoder: nn.Module, observer: Observer, *, needs_log_total: bool = False) -> Generator[None]:
    """Call `observer` after each attention of `decoder` while the context lasts.

    needs_log_total: watch the kernel for its `AttentionCall.log_total`, which is None where it computes none.
    Afterwards the registry is as before, also when the body raises and when a name had been overridden already.
    Raises ModelError when attention is observed already, as the inner context would unhook the outer one, and within
    `hybrid_attention`, whose restricted heads would be reported as if they saw every key.
    """
    for entry in registry_entries():
        if isinstance(entry, ObservedAttention):
            raise ModelError(
                "attention is being observed already in this process; allowed: one capture at a time. Leave the outer "
                "`with capture_attention(...)` first."
            )
    refuse_when_hidden("observe_attention or capture_attention", "the statistics would be those of dense heads")
    names = sorted(implementations(decoder))
    entries = [
        ObservedAttention(name, decoder=decoder, observer=observer, needs_log_total=needs_log_total) for name in names
    ]
    with installed(entries):
        yield


@runtime_checkable
class RegistryEntry(Protocol):
    """What stands in for the function of a registry name. prior: that function, None where there was none (eager).

    is_observable: whether heads see the keys and the mask that the entry is handed, as statistics of a call assume.
    """

    implementation: str
    prior: AttentionFunction | None
    is_observable: bool

    def __call__(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: object = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """What an attention module gets in place of the kernel's answer."""
        ...


@contextmanager
def installed(entries: Sequence[RegistryEntry]) -> Generator[None]:
    """Put `entries` under their names in the registry while the context lasts; afterwards it is as before."""
    for entry in entries:
        ALL_ATTENTION_FUNCTIONS[entry.implementation] = entry
    try:
        yield
    finally:
        for entry in entries:
            del ALL_ATTENTION_FUNCTIONS[entry.implementation]
            if ALL_ATTENTION_FUNCTIONS.get(entry.implementation) is not entry.prior:
                ALL_ATTENTION_FUNCTIONS[entry.implementation] = entry.prior


def registry_entries() -> list[RegistryEntry]:
    """What stands in for functions of the registry at this moment."""
    return [entry for entry in ALL_ATTENTION_FUNCTIONS.values() if isinstance(entry, RegistryEntry)]


def refuse_when_hidden(newcomer: str, reason: str) -> None:
    """Raises ModelError when what stands in the registry hides keys from heads, which `newcomer` would not know of."""
    for entry in registry_entries():
        if not isinstance(entry, ObservedAttention) and not entry.is_observable:
            raise ModelError(
                f"{newcomer} within hybrid_attention ({type(entry).__name__} stands behind {entry.implementation!r}): "
                f"{reason}. Allowed: one without the other. Leave `with hybrid_attention(...)` first."
            )


def refuse_unless_alone(decoder: nn.Module, newcomer: str) -> None:
    """Raises ModelError for a decoder that does not run on sdpa alone, or when anything stands in the registry."""
    found = implementations(decoder)
    if found != {"sdpa"}:
        raise ModelError(
            f"{newcomer} of a decoder with attn_implementation {sorted(found)}; allowed: sdpa. Call "
            "model.set_attn_implementation('sdpa')."
        )
    taken = registry_entries()
    if taken:
        raise ModelError(
            f"{newcomer} within {type(taken[0]).__name__}: statistics or restrictions would mix. Allowed: one at a "
            "time. Leave the outer context first."
        )


@contextmanager
def masked_kernel(model: PreTrainedModel) -> Generator[None]:
    """Within, a decoder that runs on a flash kernel runs on sdpa, which takes any mask; caches hold the same keys.

    Others stay as they are. Afterwards all is as before, also when the body raises.
    """
    owners: list[Any] = [model.config.get_text_config(decoder=True), *_configs(model.get_decoder())]
    flash = [
        (config, name)
        for config in {id(config): config for config in owners}.values()
        if (name := str(getattr(config, "_attn_implementation", None))).startswith(FLASH_PREFIX)
    ]
    try:
        for config, _ in flash:
            config._attn_implementation = "sdpa"
        yield
    finally:
        for config, name in flash:
            config._attn_implementation = name


def implementations(decoder: nn.Module) -> set[str]:
    """The registry names that the modules of `decoder` look up."""
    names = {getattr(config, "_attn_implementation", None) for config in _configs(decoder)}
    return {name for name in names if isinstance(name, str)}


def _configs(decoder: nn.Module) -> list[Any]:
    return [getattr(module, "config", None) for module in decoder.modules()]
