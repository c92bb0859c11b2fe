# SPDX-License-Identifier: Apache-2.0
"""What is odd about systems but no mistake: told once, of the worst of them."""

from __future__ import annotations

import logging
from types import TracebackType

log = logging.getLogger(__name__)


class Notes:
    """Remarks on systems by kind; as a context, told at its end.

    Of each kind the worst one is told, with the number of the others.

    Attributes
    ----------
    nsystems : int
        How many systems were looked at.
    """

    def __init__(self) -> None:
        self.nsystems = 0
        self._worst: dict[str, tuple[float, str]] = {}
        self._count: dict[str, int] = {}

    def add(self, kind: str, text: str, size: float = 0.0) -> None:
        """Note something.

        Parameters
        ----------
        kind : str
            What kind of thing it is.
        text : str
            A sentence that names the system.
        size : float
            How bad it is; of equal ones the first is told.
        """
        self._count[kind] = self._count.get(kind, 0) + 1
        if kind not in self._worst or size > self._worst[kind][0]:
            self._worst[kind] = (size, text)

    def take(self, others: Notes) -> None:
        """Note the worst of each kind of `others`, which are of one system."""
        for kind, (size, text) in others._worst.items():
            self.add(kind, text, size)

    def tell(self) -> None:
        """Warn of all, in the order in which kinds were met."""
        for kind, (_, text) in self._worst.items():
            others = self._count[kind] - 1
            more = f" The same in {others} more of {self.nsystems} systems."
            log.warning("%s%s", text, more if others else "")

    def __enter__(self) -> Notes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.tell()
