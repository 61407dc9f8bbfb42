"""What a sidecar asks for, matched with the files that lie beside it."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, field

from nstd.errors import InputError, NstdError, SidecarError, UnsupportedError
from nstd.jobs.folder_view import FolderView
from nstd.jobs.inputs import InboxFile, JobInput, LibraryStyle, Role
from nstd.jobs.library import find_style
from nstd.jobs.sidecar import Sidecar
from nstd.jobs.spec import JobSpec, OutputSpec, StyleChoice
from nstd.jobs.text import shown
from nstd.photo.names import is_image_name, unreadable_remedy

Styles = list[tuple[InboxFile | LibraryStyle, float]]


@dataclass
class Ask:
    """A sidecar with the files that it needs, as far as they are here."""

    file: InboxFile
    sidecar: Sidecar
    content: InboxFile | None = None
    styles: Styles = field(default_factory=list)
    mask: InboxFile | None = None
    missing: list[str] = field(default_factory=list)
    """Names of files that it needs and that are not here."""
    error: NstdError | None = None

    def inputs(self) -> list[JobInput]:
        """Return the files that are here, each once, content first and the sidecar last."""
        return job_inputs(self.content, self.styles, self.mask, self.file)

    @property
    def problem(self) -> str | None:
        """Why a style cannot be used now; None when all can."""
        return problem_of(self.styles)


def problem_of(styles: Styles) -> str | None:
    """Return why one of the styles cannot be used; None when all can."""
    for style, _ in styles:
        if isinstance(style, LibraryStyle) and style.problem:
            return f"the style '{shown(style.name)}' cannot be used: {style.problem}"
    return None


def job_inputs(
    content: InboxFile | None,
    styles: Styles,
    mask: InboxFile | None,
    sidecar: InboxFile | None = None,
) -> list[JobInput]:
    """Return the inbox files of a job, each once, content first and the sidecar last."""
    found: list[tuple[InboxFile | None, Role]] = [(content, "content")]
    found += [(style, "style") for style, _ in styles if isinstance(style, InboxFile)]
    found += [(mask, "mask"), (sidecar, "sidecar")]
    inputs: dict[str, JobInput] = {}
    for file, role in found:
        if file is not None:
            inputs.setdefault(file.name, JobInput(file, role))
    return list(inputs.values())


def make_spec(
    view: FolderView,
    content: InboxFile,
    styles: Styles,
    mask: InboxFile | None,
    *,
    stem: str,
    sidecar: Sidecar | None = None,
) -> JobSpec:
    """Return the spec of a job whose files are all here."""
    own = [style for style, _ in styles if isinstance(style, LibraryStyle)]
    single = own[0] if len(styles) == len(own) == 1 else None
    params = view.params(single, sidecar.settings if sidecar else None)
    return JobSpec(
        content=content.name,
        styles=tuple(
            StyleChoice(style.name, weight, library=isinstance(style, LibraryStyle))
            for style, weight in styles
        ),
        mask=mask.name if mask else None,
        params=params,
        priority=sidecar.priority if sidecar else 0,
        output=sidecar.output if sidecar else OutputSpec(),
        folder=view.folder,
        stem=stem,
        style_name=single.name if single else None,
    )


def unreadable(inputs: list[JobInput]) -> UnsupportedError | None:
    """Return the error of the first image of a known kind that cannot be read here."""
    for each in inputs:
        remedy = None if each.role == "sidecar" else unreadable_remedy(each.file.name)
        if remedy:
            name = shown(each.file.name)
            return UnsupportedError(f"'{name}' is of a kind that cannot be read here.", remedy)
    return None


def resolve(view: FolderView, file: InboxFile, sidecar: Sidecar) -> Ask:
    """Find the files that a sidecar names; what cannot be right ends up in ``error``."""
    return _Search(view, Ask(file, sidecar)).run()


class _Search:
    def __init__(self, view: FolderView, ask: Ask) -> None:
        self.view, self.ask = view, ask
        self.name = shown(ask.file.name)
        self.key = view.key(ask.file)

    def run(self) -> Ask:
        ask, sidecar = self.ask, self.ask.sidecar
        try:
            ask.content = self._content()
            ask.styles = self._named_styles() if sidecar.styles else self._own_styles()
            if sidecar.mask is not None:
                ask.mask = self._image("mask", sidecar.mask)
            elif sidecar.content is None:
                ask.mask = self._only(self.view.of_stem(self.key, "mask"), "mask")
        except InputError as error:
            ask.error = error
        return ask

    def _content(self) -> InboxFile | None:
        if self.ask.sidecar.content is not None:
            return self._image("content", self.ask.sidecar.content)
        stem = self.view.of_stem
        found = stem(self.key, "photo") or stem(self.key, "content")
        content = self._only(found, "photograph")
        if content is None:
            self.ask.missing.append(f"{self.view.parts[self.ask.file.name].stem}.jpg")
        return content

    def _only(self, files: list[InboxFile], what: str) -> InboxFile | None:
        if len(files) > 1:
            names = " or ".join(f"'{shown(file.name)}'" for file in files[:2])
            key = "mask" if what == "mask" else "content"
            raise SidecarError(
                f"'{self.name}' does not say which {what} it is for: {names}.",
                f"Write `{key}: NAME` into it.",
            )
        return files[0] if files else None

    def _image(self, key: str, name: str) -> InboxFile | None:
        """Return the file of that name, or note that it is missing."""
        if not is_image_name(name):
            raise SidecarError(
                f"'{self.name}' gives '{key}' a file that is no image: '{shown(name)}'.",
                "Name a photograph, with its extension.",
            )
        file = self.view.image(name)
        if file is None:
            self.ask.missing.append(name)
        return file

    def _named_styles(self) -> Styles:
        styles: Styles = []
        for entry in self.ask.sidecar.styles:
            style: InboxFile | LibraryStyle | None
            if is_image_name(entry.image):
                style = self._library_image(entry.image) or self._image("style", entry.image)
            else:
                style = self._library_style(entry.image)
            if style is not None:
                styles.append((style, entry.weight))
        return styles

    def _library_image(self, name: str) -> LibraryStyle | None:
        """Return the library style whose only image has that name, where no file beside does."""
        if self.view.image(name) is not None:
            return None
        style = find_style(name.rpartition(".")[0], self.view.library)
        if style is None or [os.path.basename(path) for path in style.images] != [name]:
            return None
        return style

    def _library_style(self, name: str) -> LibraryStyle:
        style = find_style(name, self.view.library)
        if style is not None:
            return style
        near = difflib.get_close_matches(name, self.view.library, n=1)
        guess = f" Did you mean '{shown(near[0])}'?" if near else self.view.menu()
        raise SidecarError(
            f"'{self.name}' names the style '{shown(name)}', which is not in the library.",
            f"Name a style of the library, or an image beside it with its extension.{guess}",
        )

    def _own_styles(self) -> Styles:
        """Return the styles of a sidecar that names none: its pair's, its folder's, the default."""
        if self.ask.sidecar.content is None:
            pair: Styles = [(file, 1.0) for file in self.view.of_stem(self.key, "style")]
            if pair:
                return pair
        style = self.view.default_style
        if style is None:
            menu = self.view.menu()
            raise SidecarError(
                f"'{self.name}' names no style.", f"Write `style: STYLE` into it.{menu}"
            )
        return [(style, 1.0)]
