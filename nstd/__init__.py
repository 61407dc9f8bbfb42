"""nstd: a neural style transfer daemon."""


def __getattr__(name: str) -> str:
    """Look the version up when it is asked for: that costs a third of a short process's start."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # noqa: PLC0415

    return version("nstd")
