"""Recipes: TOML to objects and back. The only room that knows every part by name.

`load` reads a recipe, `resolve` fits it to a data contract so that nothing in it is left to choose, `build`
makes the objective with its model. Nothing here imports torch before a part is looked at.
"""

from vaekit.recipe.choosing import for_contract, resolve
from vaekit.recipe.merging import overrides_tree
from vaekit.recipe.sections import DataSection, Heading, ModelSection, Part, Recipe, from_toml, to_toml
from vaekit.recipe.settings import TrainSettings
from vaekit.recipe.shelf import DEFAULT, Listing, listing, load, members, names, shown, source
from vaekit.recipe.wiring import build

__all__ = [
    "DEFAULT",
    "DataSection",
    "Heading",
    "Listing",
    "ModelSection",
    "Part",
    "Recipe",
    "TrainSettings",
    "build",
    "for_contract",
    "from_toml",
    "listing",
    "load",
    "members",
    "names",
    "overrides_tree",
    "resolve",
    "shown",
    "source",
    "to_toml",
]
