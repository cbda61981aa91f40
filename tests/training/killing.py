"""Contrastive trainings that are stopped in the middle."""

from __future__ import annotations

import contextlib
from unittest import mock

from galineage.training.contrastive import Run


@contextlib.contextmanager
def killed_after(epochs):
    """While this lasts, every contrastive training is interrupted, as by Ctrl-C, after so many epochs."""
    whole = Run._one_epoch

    def killed(run, shown):
        if run.epoch == epochs:
            raise KeyboardInterrupt
        return whole(run, shown)

    with mock.patch.object(Run, "_one_epoch", killed):
        yield
