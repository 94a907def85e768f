"""Parameters of estimators that scikit-learn's contract leaves no name for."""

from collections.abc import Callable
from types import MethodType
from typing import Any


class MethodAndParameter:
    """A method whose name a parameter has, too: called, it is the method; `get_params` has to ask for the parameter."""

    def __init__(self, method: Callable[..., Any]):
        self.method = method
        self.__doc__ = method.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Callable[..., Any]:
        return self.method if instance is None else MethodType(self.method, instance)

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance)[self.name] = value
