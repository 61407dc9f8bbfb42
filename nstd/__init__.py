"""nstd: a neural style transfer daemon."""

from importlib.metadata import version

__version__ = version("nstd")
