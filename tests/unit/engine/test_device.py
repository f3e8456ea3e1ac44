from __future__ import annotations

import threading

import pytest

from rampipe.engine.device import Device


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_unit_pays_for_its_forwards_and_for_what_the_device_waited() -> None:
    clock = Clock()
    device = Device(clock=clock)
    clock.now_s = 5.0
    with device.turn(arrived_s=2.0) as first:
        with first.forward():
            clock.now_s = 7.0
        clock.now_s = 8.0
        with first.forward():
            clock.now_s = 12.0
    clock.now_s = 20.0
    assert (first.seconds, first.forward_s, first.wait_s) == (10.0, 6.0, 4.0)


def test_from_the_second_unit_on_time_counts_from_the_end_of_the_one_before() -> None:
    clock = Clock()
    device = Device(clock=clock)
    with device.turn(arrived_s=0.0):
        clock.now_s = 3.0
    clock.now_s = 4.0
    with device.turn(arrived_s=1.0) as second, second.forward():
        clock.now_s = 10.0
    assert (second.seconds, second.forward_s) == (7.0, 6.0)


def test_one_unit_at_a_time_and_an_error_frees_the_device() -> None:
    device, order = Device(), list[str]()

    def wait_and_compute() -> None:
        with device.turn(arrived_s=0.0):
            order.append("second")

    with pytest.raises(KeyError), device.turn(arrived_s=0.0):
        thread = threading.Thread(target=wait_and_compute)
        thread.start()
        order.append("first")
        raise KeyError
    thread.join()
    assert order == ["first", "second"]
