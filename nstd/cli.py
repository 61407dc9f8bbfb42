"""The commands: what each takes, and who does it. No logic here, and nothing slow at import."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nstd.cli_guard import guarded
from nstd.cli_options import (
    ConfigFile,
    Device,
    Root,
    Weights,
    check_settings,
    engine_overrides,
    with_settings,
)
from nstd.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from nstd.jobs.ledger import RequestKind
    from nstd.service.config import Config

app = typer.Typer(
    help="Turns photographs into paintings: drop one into a folder, get the picture out of "
    "another.",
    epilog="Begin with `nstd demo`. Then `nstd run --root ~/nstd`: put a painting into "
    "~/nstd/styles and photographs into ~/nstd/inbox/STYLE.",
    no_args_is_help=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
weights_app = typer.Typer(
    help="Look after the network's weights.", pretty_exceptions_enable=False, no_args_is_help=False
)
app.add_typer(weights_app, name="weights")


@app.callback()
def _root_command(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Say which nstd this is.", is_eager=True)
    ] = False,
) -> None:
    if version:
        from nstd import __version__

        typer.echo(f"nstd {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(
    epilog="Examples:\n\n`nstd run --root ~/nstd` keeps painting until it is stopped.\n\n"
    "`nstd run --root ~/nstd --drain` paints what is there and ends."
)
def run(
    *,
    root: Root = None,
    config: ConfigFile = None,
    weights: Weights = None,
    device: Device = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="ADDR:PORT",
            help="Where to serve metrics and the status page; port 0 takes a free one.",
            show_default=False,
        ),
    ] = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="Paint all that is in the inbox, then end.")
    ] = False,
) -> None:
    """Watch the inbox and paint what arrives."""
    from nstd.service import life

    overrides = {**engine_overrides(weights, device), "http.listen": listen}

    def load() -> Config:
        return _load(root, config, overrides)

    raise typer.Exit(life.run(load, drain=drain))


@app.command(
    epilog="Examples:\n\n`nstd stylize beach.jpg starry-night.jpg -o beach-starry.jpg`\n\n"
    "`nstd stylize beach.jpg scream.jpg wave.jpg --blend 2,1 --size 1024 --preserve-color "
    "luminance -o out.png`\n\n`nstd stylize beach.jpg starry-night --root ~/nstd -o out.jpg` takes "
    "a style of the library."
)
@with_settings
def stylize(
    content: Annotated[Path, typer.Argument(metavar="CONTENT", help="The photograph.")],
    style: Annotated[
        list[Path],
        typer.Argument(metavar="STYLE", help="Paintings, or styles of the library in --root."),
    ],
    *,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="OUT", help="The picture: .jpg .png .webp .tiff"),
    ],
    blend: Annotated[
        str | None,
        typer.Option(metavar="2,1,...", help="Shares of several styles.", show_default="equal"),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(metavar="IMAGE", help="White is painted, black is not.", show_default=False),
    ] = None,
    quality: Annotated[int, typer.Option(metavar="1..100", help="Of JPEG and WebP.")] = 95,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Write a report (JSON) beside OUT.")
    ] = False,
    root: Root = None,
    config: ConfigFile = None,
    weights: Weights = None,
    device: Device = None,
    **settings: Any,
) -> None:
    """Paint one picture now, with a progress bar."""
    from nstd import cli_stylize

    wish = cli_stylize.Wish(
        content=content,
        styles=tuple(style),
        output=output,
        settings=check_settings(settings),
        mask=mask,
        blend=cli_stylize.shares(blend),
        quality=quality,
        force=force,
        report=report,
    )
    loaded = _load(root, config, engine_overrides(weights, device), anywhere=True)
    typer.echo(cli_stylize.stylize(wish, loaded, _console(stderr=True)))


@app.command(epilog="It needs no download, and leaves its files where it says at the end.")
def demo(
    weights: Weights = None,
    device: Device = None,
    keep: Annotated[
        Path | None,
        typer.Option("--root", metavar="DIR", help="Work here instead of in a temporary folder."),
    ] = None,
) -> None:
    """Paint a sample photograph end to end through a real daemon."""
    from nstd import demo as sample

    raise typer.Exit(
        sample.run(keep, weights=weights or "builtin", device=device, console=_console())
    )


@app.command(
    epilog="It changes nothing. Run it as the user that nstd runs as: "
    "`sudo -u nstd nstd check --config /etc/nstd/nstd.yaml`"
)
def check(
    *,
    root: Root = None,
    config: ConfigFile = None,
    weights: Weights = None,
    device: Device = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Do not load TensorFlow to try the device.")
    ] = False,
    example: Annotated[
        bool, typer.Option("--example", help="Print a configuration with every setting.")
    ] = False,
) -> None:
    """Say what is wrong with configuration, folders, weights and device, and how to mend it."""
    if example:
        from nstd.service.example import example as text

        typer.echo(text(), nl=False)
        return
    from nstd import cli_check

    loaded = _load(root, config, engine_overrides(weights, device))
    raise typer.Exit(cli_check.check(loaded, _path(root, config), _console(), quick=quick))


@app.command(epilog="`nstd status --json | jq .running` is the same for scripts.")
def status(
    root: Root = None,
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what is painted, what waits and why, what was done, what failed."""
    from nstd.service.status import gather

    snapshot = gather(_load(root, config))
    if as_json:
        import json

        typer.echo(json.dumps(snapshot.to_dict(), indent=2))
        return
    from nstd import cli_status

    cli_status.show(snapshot, _console())


@app.command(epilog="The id is in `nstd status` and in error.txt; its last letters are enough.")
def retry(
    job: Annotated[str | None, typer.Argument(metavar="JOB", show_default=False)] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Every job that failed and was not retried yet.")
    ] = False,
    root: Root = None,
    config: ConfigFile = None,
) -> None:
    """Paint a failed or cancelled job again."""
    if (job is None) != failed:
        raise UsageError("Name one job, or say --failed.", "`nstd status` lists the jobs.")
    _ask(_load(root, config), "retry", job)


@app.command(epilog="The id is in `nstd status`; its last letters are enough.")
def cancel(
    job: Annotated[str, typer.Argument(metavar="JOB")],
    root: Root = None,
    config: ConfigFile = None,
) -> None:
    """Stop a job; its inputs go to the failed folder, from where it can be retried."""
    _ask(_load(root, config), "cancel", job)


@app.command()
def bench(
    weights: Weights = None,
    device: Device = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    root: Root = None,
    config: ConfigFile = None,
) -> None:
    """Measure how fast this machine paints."""
    from nstd import cli_bench

    loaded = _load(root, config, engine_overrides(weights, device), anywhere=True)
    cli_bench.bench(loaded, _console(), as_json=as_json)


@weights_app.callback(invoke_without_command=True)
def _weights_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@weights_app.command("list")
def weights_list(root: Root = None, config: ConfigFile = None) -> None:
    """Say which weights are here and where, and which the configuration asks for."""
    from nstd import cli_weights

    cli_weights.show(_load(root, config, anywhere=True).model.weights, _console())


@weights_app.command("fetch")
def weights_fetch(root: Root = None, config: ConfigFile = None) -> None:
    """Download the ImageNet weights into Keras's cache ($KERAS_HOME), checked."""
    from nstd import cli_weights

    cli_weights.fetch(_load(root, config, anywhere=True).model.weights, _console(stderr=True))


@weights_app.command("verify")
def weights_verify(
    which: Annotated[
        str | None,
        typer.Argument(
            metavar="imagenet|builtin|FILE",
            help="What to check.",
            show_default="what the configuration asks for",
        ),
    ] = None,
    root: Root = None,
    config: ConfigFile = None,
) -> None:
    """Check every number of the weights, without downloading anything."""
    from nstd import cli_weights

    cli_weights.verify(which or _load(root, config, anywhere=True).model.weights)


def _ask(config: Config, kind: RequestKind, job: str | None) -> None:
    """Pass a wish on to the daemon; exit 1 where it refuses one."""
    from nstd.service.status import ask

    replies = ask(config, kind, job)
    typer.echo("\n".join(reply.line for reply in replies) or "No job failed.")
    raise typer.Exit(int(any(reply.refused for reply in replies)))


def _path(root: Path | None, config: Path | None) -> Path | None:
    from nstd.service.config import find

    return find(config, root)


def _load(
    root: Path | None,
    config: Path | None,
    overrides: dict[str, Any] | None = None,
    *,
    anywhere: bool = False,
) -> Config:
    """Read the configuration; commands that need folders must be told where these are."""
    from nstd.service.config import load

    path = _path(root, config)
    if path is None and root is None and not anywhere:
        raise UsageError("Which folders?", "Say --root DIR, or --config FILE, or set $NSTD_CONFIG.")
    return load(path, root, overrides)


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    # Without a terminal nobody sees where a line would have to be folded.
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=200)


def main(args: Sequence[str] | None = None) -> None:
    """Run a command; every way out is an exit code, every refusal one sentence on stderr."""
    sys.exit(guarded(app, sys.argv[1:] if args is None else list(args)))
