"""Which module does what a command's options ask for; it is loaded when it is asked for."""

import importlib

from scorefield.cli import options as asked

MODULES: dict[type[asked.Common], str] = {
    asked.Fit: "fit",
    asked.Sample: "sample",
    asked.Frontier: "frontier",
    asked.Score: "score",
    asked.Logprob: "logprob",
    asked.Evaluate: "evaluate",
    asked.Plot: "plot",
    asked.CompareObjectives: "compare_objectives",
    asked.Density: "density",
    asked.Data: "builtin_data",
    asked.Gallery: "gallery",
    asked.Selftest: "selftest",
}
"""The module of each command, in this folder; its `run(options)` does the work."""


def run(options: asked.Common) -> None:
    """Do what a command's options ask for. Mistakes are ValueErrors; `entry` makes them one line."""
    importlib.import_module(f"scorefield.cli.{MODULES[type(options)]}").run(options)
