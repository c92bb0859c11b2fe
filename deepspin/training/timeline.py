# SPDX-License-Identifier: Apache-2.0
"""What a few training steps spend their time on, as a Chrome trace."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from deepspin.training.callbacks import step_of
from deepspin.utils.outputs import replacing

log = logging.getLogger(__name__)

# so many steps are traced, after these: as those of DeePMD-kit's PyTorch backend
TRACED, BEFORE = 3, 16
STEP = "training step"


class Timeline(keras.callbacks.Callback):
    """Trace a few steps, and write the file as soon as they are made.

    Of a shorter training they are the last ones.

    Parameters
    ----------
    path : str
        File to write, for chrome://tracing or Perfetto.
    numb_steps : int
        Steps of the whole training.
    """

    def __init__(self, path: str | Path, numb_steps: int):
        super().__init__()
        self.path, self.numb_steps = Path(path), numb_steps
        self._first = self._begun = 0
        self._folder: tempfile.TemporaryDirectory | None = None
        self._mark: Any = None
        self._done = False

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Decide which steps they will be."""
        step = step_of(self.model)
        self._first = max(min(step + BEFORE, self.numb_steps - TRACED), step)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Begin to trace, or mark a further step in the trace."""
        step = step_of(self.model)
        if self._done or step < self._first:
            return
        if self._folder is None:
            self._begun, self._folder = step, tempfile.TemporaryDirectory()
            tf.profiler.experimental.start(self._folder.name)
        self._mark = tf.profiler.experimental.Trace(STEP, step_num=step, _r=1)
        self._mark.__enter__()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """End the trace after the last of the steps."""
        if self._mark is not None:
            self._mark.__exit__(None, None, None)
            self._mark = None
            if step_of(self.model) - self._begun >= TRACED:
                self.close()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Write what there is of a training that was stopped."""
        self.close()

    def close(self) -> None:
        """End the trace and write the file, unless that is done."""
        folder, self._folder = self._folder, None
        if folder is None:
            return
        self._done = True
        with folder:
            tf.profiler.experimental.stop()
            (profile,) = Path(folder.name).rglob("*.xplane.pb")
            events = list(_events(profile.read_bytes()))
        start = min((event["ts"] for event in events if "ts" in event), default=0.0)
        for event in events:
            if "ts" in event:
                event["ts"] -= start
        with replacing(self.path) as partial:
            text = json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})
            partial.write_text(text, encoding="utf-8")
        log.info(
            "steps %d to %d traced in '%s', for chrome://tracing or ui.perfetto.dev",
            self._begun,
            step_of(self.model),
            self.path,
        )


def _events(profile: bytes) -> Iterator[dict[str, Any]]:
    """Events of a profile in Chrome's form, times in μs; each thread has its name.

    References
    ----------
    .. [1] "Trace Event Format",
       https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
    """
    # of TensorFlow itself; to import it here keeps a start without traces short
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace.FromString(profile)
    for pid, plane in enumerate(space.planes):
        if not any(line.events for line in plane.lines):
            continue
        name = {"name": plane.name}
        yield {"ph": "M", "name": "process_name", "pid": pid, "args": name}
        for tid, line in enumerate(plane.lines):
            name = {"name": line.display_name or line.name or f"thread {line.id}"}
            here = {"pid": pid, "tid": tid}
            yield {"ph": "M", "name": "thread_name", **here, "args": name}
            for event in line.events:
                what = plane.event_metadata[event.metadata_id]
                offset = event.offset_ps / 1e6
                yield {
                    "ph": "X",
                    "name": what.display_name or what.name,
                    **here,
                    "ts": line.timestamp_ns / 1e3 + offset,
                    "dur": event.duration_ps / 1e6,
                    "args": dict(_notes(plane, event)),
                }


def _notes(plane: Any, event: Any) -> Iterator[tuple[str, Any]]:
    """What a profile notes of an event: numbers and words, by name."""
    for stat in event.stats:
        kind = stat.WhichOneof("value")
        if kind is None or kind == "bytes_value":
            continue
        value = getattr(stat, kind)
        if kind == "ref_value":
            value = plane.stat_metadata[value].name
        yield plane.stat_metadata[stat.metadata_id].name, value
