# SPDX-License-Identifier: Apache-2.0
"""A signal is noted; a second one ends at once."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from deepspin.utils.stopping import StopOnSignal, Stopped


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_noted(number, caplog):
    before = signal.getsignal(number)
    with StopOnSignal() as stop:
        assert stop.received is None
        os.kill(os.getpid(), number)
        assert stop.received is number
        assert caplog.messages == [f"{number.name}: finishing the step, then saving"]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_handlers_come_back_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError), StopOnSignal():
        assert signal.getsignal(signal.SIGTERM) is not before
        raise RuntimeError
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_leaves_signals_alone():
    """Only the main thread may have handlers."""
    before, seen = signal.getsignal(signal.SIGINT), []

    def job():
        with StopOnSignal() as stop:
            seen.append((stop.received, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
    assert seen == [(None, before)]


def test_exit_status():
    """As a shell's: 128 and the number of the signal."""
    assert Stopped("saved").status == 130
    assert Stopped("saved", signal.SIGTERM).status == 143
