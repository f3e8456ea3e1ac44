"""Many groups to one result on Ray: leaves where there is room, and two results are merged as soon as there are two.

Tasks only read and return, so Ray may repeat them, unlike units: what is lost with a process or a node is made again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from rampipe.engine.cluster import joined_cluster
from rampipe.errors import ClusterError

MAX_RETRIES = 3
"""Of a task whose process died; what it raises is not tried again."""

Group = TypeVar("Group")
Shared = TypeVar("Shared")
Result = TypeVar("Result")


def reduce_on_cluster(
    groups: Sequence[Group],
    shared: Shared,
    *,
    leaf: Callable[[Group, Shared], Result],
    merge: Callable[[Result, Result], Result],
) -> Result:
    """`leaf(group, shared)` of every group, merged two by two. Which two is a matter of who is ready first, so `merge`
    has to give the same in any order.

    One task a CPU at most, so that at most twice as many results wait in memory, however many groups there are.
    Exceptions of both functions arrive as they are; raises ClusterError when Ray cannot be used, or a task died
    `MAX_RETRIES` times more.
    """
    with joined_cluster(object_store_bytes=None):
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            return ray.get(_root(groups, shared, leaf, merge))
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
            raise ClusterError(f"a task of the reduction was lost {1 + MAX_RETRIES} times: {reason}") from error


def _root(groups: Sequence[Any], shared: Any, leaf: Callable[..., Any], merge: Callable[..., Any]) -> Any:
    """Reference of the last result. Waits for small answers, as waiting for results would fetch them all to here."""
    import ray

    task: Any = ray.remote(_call).options(num_cpus=1, num_returns=2, max_retries=MAX_RETRIES)  # pyright: ignore[reportCallIssue, reportArgumentType]
    everywhere = ray.put(shared)
    left = deque(groups)
    running, ready = dict[Any, Any](), list[Any]()
    while left or running or len(ready) > 1:
        while len(running) < _num_slots() and (len(ready) > 1 or left):
            if len(ready) > 1:
                result, answer = task.remote(merge, ready.pop(), ready.pop())
            else:
                result, answer = task.remote(leaf, left.popleft(), everywhere)
            running[answer] = result
        done, _ = ray.wait(list(running), num_returns=1)
        ray.get(done)  # raises what the task did
        ready += [running.pop(answer) for answer in done]
    return ready[0]


def _call(function: Callable[..., Any], *arguments: Any) -> tuple[Any, None]:
    """The function's result, and the answer that it is there."""
    return function(*arguments), None


def _num_slots() -> int:
    """Tasks at once: as many as there are CPUs now; one where an autoscaler has yet to start a node."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 0)))
