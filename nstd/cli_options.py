"""Options that several commands share, and those that are made from the table of settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from nstd.errors import UsageError
from nstd.jobs.settings import Setting, Settings, table

F = TypeVar("F", bound=Callable[..., Any])
LONGEST_METAVAR = 28
PLACE, ENGINE, LOOK = "Where", "With what", "How it is painted"

Root = Annotated[
    Path | None,
    typer.Option(
        "--root",
        metavar="DIR",
        help="Home of the six folders (inbox, outbox, originals, failed, styles, state).",
        rich_help_panel=PLACE,
        show_default=False,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Configuration. Without it: $NSTD_CONFIG, then /etc/nstd/nstd.yaml.",
        rich_help_panel=PLACE,
        show_default=False,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="imagenet|builtin|FILE",
        help="The network's weights: Keras's VGG19, the built-in features, or a file.",
        rich_help_panel=ENGINE,
        show_default=False,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="auto|gpu|cpu|NAMES",
        help="What to paint on; several names are separated by commas (gpu:0,gpu:1).",
        rich_help_panel=ENGINE,
        show_default=False,
    ),
]


def engine_overrides(weights: str | None, device: str | None) -> dict[str, Any]:
    """Return what ``--weights`` and ``--device`` change in the configuration."""
    if weights is not None and weights not in ("imagenet", "builtin"):
        weights = str(Path(weights).expanduser().absolute())
    named = device is not None and device not in ("auto", "gpu", "cpu")
    names = [name.strip() for name in device.split(",")] if named and device else device
    return {"model.weights": weights, "model.device": names}


def with_settings(command: F) -> F:
    """Give ``command`` one option for each setting; it receives them as keyword arguments."""
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    made = [_parameter(row) for row in table().values()]
    command.__signature__ = signature.replace(parameters=[*own, *made])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in (*own, *made)}
    return command


def flag(name: str) -> str:
    """Return a setting's option: ``--preserve-color``."""
    return "--" + name.replace("_", "-")


def check_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that were given; UsageError names the option and what is allowed."""
    rows = table()
    for name, value in given.items():
        if value is not None and not _is_allowed(rows[name], value):
            raise UsageError(f"{flag(name)} cannot be {value}.", f"Allowed: {rows[name].allowed}.")
    return Settings.model_validate(dict(given)).given()


def _is_allowed(row: Setting, value: Any) -> bool:
    if row.choices:
        return value in row.choices
    low, high = row.minimum, row.maximum
    return (low is None or value >= low) and (high is None or value <= high)


def _parameter(row: Setting) -> inspect.Parameter:
    choices = list(row.choices)
    metavar = "|".join(choices) if choices else f"{row.minimum:.10g}..{row.maximum:.10g}"
    words = row.help
    if len(metavar) > LONGEST_METAVAR:  # help pages cut it off
        metavar, words = "NAME", f"{words} One of {', '.join(choices)}."
    option = typer.Option(
        flag(row.name),
        metavar=metavar,
        help=words,
        rich_help_panel=LOOK,
        show_default=str(row.default),
        autocompletion=(lambda: choices) if choices else None,
    )
    return inspect.Parameter(
        row.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[row.kind | None, option],
    )
