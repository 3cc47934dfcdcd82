"""What the strategies of this package share: each is Avalanche's template with some plugins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import Parameter, Signature, signature
from typing import Any, ClassVar

import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import nn
from typing_extensions import Required, TypedDict

from avalanche_ext.plugins import MethodPlugin, check_composition


class StrategyArguments(TypedDict, total=False):
    """The arguments of Avalanche's `SupervisedTemplate`, which all strategies take."""

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
    """A strategy that is made of plugins of this package.

    It takes their arguments and those of Avalanche's template, all by keyword. What an argument of
    a plugin means, and its default, stand with the plugin. `inspect.signature` and `help` show all
    of them with their defaults; the `TypedDict` of a subclass shows their types to editors.

    Attributes:
        bundled: The plugins, in the order in which they act, after the user's `plugins`.
        renamed: Arguments of plugins that have another name in a strategy, as Avalanche's have.
    """

    bundled: ClassVar[tuple[type[MethodPlugin], ...]]
    renamed: ClassVar[dict[str, str]] = {"batch_size": "batch_size_mem"}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
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
        # Avalanche refuses keywords that it finds in no `__init__` of a class or its bases.
        init: Any = cls.__init__
        init.__signature__ = Signature([first, *own.values(), *template])

    def bundle(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Make the plugins; return the arguments of Avalanche's template, `plugins` among them.

        Args:
            arguments: Those of the plugins, by their names in a strategy, and of the template.

        Raises:
            ValueError: If an argument is out of range, or the plugins cannot act together.
        """
        others = {**arguments}
        made = []
        for plugin in self.bundled:
            names = {name: each.name for name, each in self._parameters(plugin).items()}
            given = names.keys() & arguments.keys()
            made.append(plugin(**{names[name]: arguments[name] for name in given}))
            others = {name: value for name, value in others.items() if name not in given}
        others["plugins"] = [*(arguments.get("plugins") or ()), *made]
        check_composition(others["plugins"], self)
        return others

    @classmethod
    def _parameters(cls, plugin: type[MethodPlugin]) -> dict[str, Parameter]:
        """Return the parameters of a plugin's constructor by their names in a strategy."""
        parameters = signature(plugin).parameters
        return {cls.renamed.get(name, name): each for name, each in parameters.items()}
