"""Base class of this package's strategies: Avalanche's template with some plugins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, ClassVar

import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import nn
from typing_extensions import Required, TypedDict

from avalanche_ext.plugins import MethodPlugin, check_composition
from avalanche_ext.validation import misfit


class StrategyArguments(TypedDict, total=False):
    """Arguments of Avalanche's `SupervisedTemplate`; all strategies take them."""

    model: Required[nn.Module]
    optimizer: Required[torch.optim.Optimizer]
    criterion: Any
    train_mb_size: int
    train_epochs: int
    eval_mb_size: int
    device: str | torch.device
    plugins: Sequence[SupervisedPlugin[Any]] | None
    evaluator: Any
    eval_every: int
    peval_mode: str


class PluginStrategy(SupervisedTemplate):  # type: ignore[misc]
    """A strategy made of this package's plugins.

    It takes the plugins' arguments and those of Avalanche's template, all by keyword. The plugins
    document their arguments and define the defaults. `inspect.signature` and `help` show all
    arguments with their defaults; the `TypedDict` of a subclass gives editors their types.

    Attributes:
        bundled: Classes of the plugins, in the order in which they act, after the user's `plugins`.
        renamed: Plugin arguments that have a different name in a strategy, the one that Avalanche's
            strategies use.
    """

    bundled: ClassVar[tuple[type[MethodPlugin], ...]]
    renamed: ClassVar[dict[str, str]] = {"batch_size": "batch_size_mem"}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "bundled" not in cls.__dict__:
            return
        own = {
            name: parameter.replace(name=name, kind=Parameter.KEYWORD_ONLY)
            for plugin in cls.bundled
            for name, parameter in cls._parameters(plugin).items()
        }
        template = [
            parameter.replace(kind=Parameter.KEYWORD_ONLY)
            for name, parameter in signature(SupervisedTemplate).parameters.items()
            if name not in own and parameter.kind is not Parameter.VAR_KEYWORD
        ]
        first = Parameter("self", Parameter.POSITIONAL_ONLY)
        expected = Signature([first, *own.values(), *template])
        inner = cls.__init__

        @wraps(inner)
        def call(self: Any, *args: Any, **kwargs: Any) -> None:
            try:
                expected.bind(self, *args, **kwargs)
            except TypeError:
                given = (self, *args)
                raise TypeError(misfit(cls.__name__, expected, given, kwargs)) from None
            inner(self, **kwargs)

        init: Any = call
        # Avalanche rejects a keyword that no `__init__` in the class hierarchy names.
        init.__signature__ = expected
        changed: Any = cls
        changed.__init__ = init

    def bundle(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Create the plugins, and return arguments for Avalanche's template that include them.

        Args:
            arguments: Arguments of the plugins, by their names in a strategy, and of the template.

        Raises:
            ValueError: If an argument is out of range, or the plugins cannot be combined.
        """
        others = {**arguments}
        made = []
        for plugin in self.bundled:
            names = {name: each.name for name, each in self._parameters(plugin).items()}
            given = names.keys() & arguments.keys()
            made.append(plugin(**{names[name]: arguments[name] for name in given}))
            others = {name: value for name, value in others.items() if name not in given}
        given_plugins = [*(arguments.get("plugins") or ())]
        for plugin in given_plugins:
            if isinstance(plugin, type):
                name = plugin.__name__
                raise TypeError(f"plugins has the class {name}: create one, {name}(…)")
        others["plugins"] = [*given_plugins, *made]
        check_composition(others["plugins"], self)
        return others

    @classmethod
    def _parameters(cls, plugin: type[MethodPlugin]) -> dict[str, Parameter]:
        """Return the parameters of a plugin's constructor, by their names in a strategy."""
        parameters = signature(plugin).parameters
        return {cls.renamed.get(name, name): each for name, each in parameters.items()}
