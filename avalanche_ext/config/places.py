"""The strategy and plugins of a method, each with its place in the YAML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from avalanche_ext.config.errors import at
from avalanche_ext.config.schema import Component
from avalanche_ext.config.traits import read_traits
from avalanche_ext.traits import Traits


@dataclass(frozen=True)
class Place:
    """A strategy or plugin, its path in the YAML, and the path of its arguments."""

    component: Component
    path: str
    args_path: str

    @property
    def traits(self) -> Sequence[Traits]:
        """The traits of the component; for one of our strategies, those of each of its plugins."""
        return read_traits(self.component.target, self.component.args)


def places_of(
    strategy: Component | None, plugins: Sequence[Component | None], path: str
) -> list[Place]:
    """Return the places of a method's strategy and plugins in the YAML, without faulty ones.

    Args:
        strategy: The strategy; None if it has problems itself.
        plugins: The plugins, in order; None for those with problems.
        path: The path of the method in the YAML.
    """
    places = [Place(strategy, at(path, "strategy"), at(path, "args"))] if strategy else []
    for index, plugin in enumerate(plugins):
        if plugin:
            where = at(at(path, "plugins"), index)
            places.append(Place(plugin, where, at(where, plugin.name)))
    return places
