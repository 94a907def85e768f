"""The stand-in for scikit-learn's callbacks, which versions before 1.9 do not have."""

import runpy
import sys
from typing import Any

import pytest

from frofa.utils import callbacks


def test_older_versions_have_no_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    older: dict[str, Any] = runpy.run_path(str(callbacks.__file__))

    mixin: Any = older["CallbackSupportMixin"]

    class Head(mixin):
        def fit(self, X: Any, y: Any = None) -> "Head":  # noqa: ARG002
            with older["fit_task"](self, X) as task, task.part("part") as part, part.hand_to(Head(), "inner"):
                assert not part.step("step")
            return self

    assert older["with_callbacks"](Head.fit) is Head.fit
    head = older["tells_callbacks"](Head.fit)(Head(), [[1]], y=[1])
    assert vars(head) == {}
    assert not hasattr(head, "set_callbacks")
    assert not older["shows_bar"](head)
    assert not older["task_of"](head).is_heard
