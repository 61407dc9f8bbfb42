"""One folder of the inbox as grouping sees it: what its names mean, and which style it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nstd.engine.params import StyleParams
from nstd.jobs import settings
from nstd.jobs.inputs import InboxFile, LibraryStyle, Role, Rules
from nstd.jobs.library import find_style
from nstd.jobs.roles import Kind, Part, part_of
from nstd.jobs.text import folded, shown

_MENU_LENGTH = 10


class FolderView:
    """The files of one folder, and the library."""

    def __init__(
        self,
        folder: str,
        files: Sequence[InboxFile],
        library: Mapping[str, LibraryStyle],
        rules: Rules,
    ) -> None:
        self.folder, self.library, self.rules = folder, library, rules
        self.files = sorted(files, key=lambda file: file.name)
        self.parts: dict[str, Part] = {file.name: part_of(file.name) for file in self.files}
        self._by_stem: dict[tuple[str, Kind], list[InboxFile]] = {}
        self._by_name: dict[str, InboxFile] = {}
        for file in self.files:
            part = self.parts[file.name]
            self._by_stem.setdefault((part.key, part.kind), []).append(file)
            if part.kind != "sidecar":
                self._by_name.setdefault(folded(file.name), file)
        self._exact = {file.name: file for file in self.files}
        self.style = self._style_of_folder()
        self._plain_params: dict[str | None, StyleParams] = {}

    def _style_of_folder(self) -> LibraryStyle | None:
        """Return the style that the folder is named after: the innermost name that is a style's."""
        for part in reversed(self.folder.split("/") if self.folder else []):
            style = find_style(part, self.library)
            if style is not None:
                return style
        return None

    @property
    def default_style(self) -> LibraryStyle | None:
        """The style of a photograph that comes with no other wish."""
        name = self.rules.default_style
        if self.style is not None or name is None:
            return self.style
        missing = LibraryStyle(name, (), problem="it is not in the library")
        return find_style(name, self.library) or missing

    def params(
        self, style: LibraryStyle | None, given: Mapping[str, Any] | None = None
    ) -> StyleParams:
        """Return a job's parameters; without a sidecar they are the same for all of a style."""
        own, defaults = style.settings if style else {}, self.rules.defaults
        if given:
            return settings.resolve(given, own, defaults)
        key = style.name if style else None
        if key not in self._plain_params:
            self._plain_params[key] = settings.resolve({}, own, defaults)
        return self._plain_params[key]

    def kind(self, file: InboxFile) -> Kind:
        """Return what the file's name says that it is."""
        return self.parts[file.name].kind

    def role(self, file: InboxFile) -> Role:
        """Return the part that a file plays where no sidecar gives it another."""
        kind = self.kind(file)
        return "content" if kind == "photo" else kind

    def key(self, file: InboxFile) -> str:
        """Return the file's stem as files of one job share it."""
        return self.parts[file.name].key

    def of_stem(self, key: str, *kinds: Kind) -> list[InboxFile]:
        """Return the files of that stem, styles in the order of their numbers."""
        found = [file for kind in kinds for file in self._by_stem.get((key, kind), ())]
        return sorted(found, key=lambda f: (kinds.index(self.kind(f)), self.parts[f.name].number))

    def image(self, name: str) -> InboxFile | None:
        """Return the image of that name: exactly, or as a case-insensitive client sees it."""
        exact = self._exact.get(name)
        return exact if exact is not None else self._by_name.get(folded(name))

    def menu(self) -> str:
        """Return the usable styles in a sentence; empty when there is none."""
        names = [shown(name) for name, style in self.library.items() if not style.problem]
        more = ", ..." if len(names) > _MENU_LENGTH else ""
        return f" There are: {', '.join(names[:_MENU_LENGTH])}{more}." if names else ""
