# SPDX-License-Identifier: Apache-2.0
"""Long jobs that a signal stops between two steps."""

from __future__ import annotations

import logging
import signal
from types import FrameType

log = logging.getLogger(__name__)


class Stopped(KeyboardInterrupt):
    """A job was stopped by a signal, after saving.

    Parameters
    ----------
    message : str
        What was saved, and how to go on.
    received : signal.Signals, optional
        The signal; its number and 128 are the exit `status` of a program that stops so.
    """

    def __init__(self, message: str, received: signal.Signals | None = None):
        super().__init__(message)
        self.status = 128 + (received or signal.SIGINT)


class StopOnSignal:
    """Notes signals to stop, so that a job can finish its step and save.

    These are SIGINT, SIGTERM, and SIGHUP unless that is ignored, as below `nohup`.

    Attributes
    ----------
    received : signal.Signals or None
        The first that came.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict = {}

    def __enter__(self) -> StopOnSignal:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            try:
                self._previous[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: leave signals alone
                break
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:  # asked twice: at once
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        log.warning("%s: finishing the step, then saving", self.received.name)
