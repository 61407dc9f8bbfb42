"""The files of one folder of the inbox, each put into its place."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from nstd.errors import NstdError, SidecarError, UnpairedError, UnsafeFileError
from nstd.jobs.asks import Ask, Styles, job_inputs, make_spec, problem_of, resolve, unreadable
from nstd.jobs.folder_view import FolderView
from nstd.jobs.inputs import Candidate, InboxFile, JobInput, Role, Waiting
from nstd.jobs.names import refusal
from nstd.jobs.sidecar import Sidecar
from nstd.jobs.spec import JobSpec
from nstd.jobs.text import shown

_ORDER: tuple[Role, ...] = ("content", "style", "mask", "sidecar")


class FolderGroup:
    """Groups one folder; ``run`` fills the three lists."""

    def __init__(
        self, view: FolderView, read_sidecar: Callable[[InboxFile], Sidecar | None], now: float
    ) -> None:
        self.view, self.read_sidecar, self.now = view, read_sidecar, now
        self.candidates: list[Candidate] = []
        self.waiting: list[Waiting] = []
        self.ignored: list[InboxFile] = []
        self._placed: set[str] = set()
        self._taken: set[str] = set()
        self._unread: dict[str, InboxFile] = {}
        """Sidecars that cannot be read just now; nobody knows which files they name."""

    def run(self) -> None:
        """Put every file into its place."""
        self._place_refused()
        self._place_asks(self._asks())
        self._place_pairs()
        for file in self._left():
            if not self._is_old([file]):
                self._place_photo(file)

    # --- into the lists ----------------------------------------------------------------------

    def _left(self) -> list[InboxFile]:
        return [file for file in self.view.files if file.name not in self._placed]

    def _is_old(self, files: Iterable[InboxFile]) -> bool:
        """Whether all of these were taken before; then they are done with."""
        files = list(files)
        if any(not file.taken for file in files):
            return False
        self._placed.update(file.name for file in files)
        return True

    def _admit(
        self, inputs: Sequence[JobInput], spec: JobSpec | None, error: NstdError | None = None
    ) -> None:
        since = min(each.file.first_seen for each in inputs)
        error = error or unreadable(list(inputs))
        self.candidates.append(Candidate(spec, tuple(inputs), since, error))
        self._placed.update(each.file.name for each in inputs)
        self._taken.update(each.file.name for each in inputs)

    def _fail(self, files: Iterable[InboxFile], error: NstdError) -> None:
        inputs = [JobInput(file, self.view.role(file)) for file in files]
        self._admit(sorted(inputs, key=lambda each: _ORDER.index(each.role)), None, error)

    def _wait(self, files: Iterable[InboxFile], reason: str, deadline: float | None = None) -> None:
        for file in files:
            if file.name not in self._placed:
                if file.taken:
                    pass
                elif file.settled:
                    self.waiting.append(Waiting(file, reason, deadline))
                else:
                    self.waiting.append(Waiting(file, file.why or "still being written"))
                self._placed.add(file.name)

    def _wait_or_fail(
        self, files: Sequence[InboxFile], reason: str, error: Callable[[], NstdError]
    ) -> None:
        """Wait for what is missing; fail when it never came. Each file that comes buys time."""
        deadline = max(file.first_seen for file in files) + self.view.rules.pair_timeout_s
        if self.now >= deadline and all(file.settled for file in files):
            self._fail(files, error())
        else:
            self._wait(files, reason, deadline)

    # --- names and sizes ---------------------------------------------------------------------

    def _place_refused(self) -> None:
        limit = self.view.rules.max_file_bytes
        for file in self.view.files:
            if not file.settled or file.taken or self.view.kind(file) == "sidecar":
                continue
            if _refusal(file):
                self._fail([file], _refused(file))
            elif limit is not None and file.size > limit:
                # Not a job: to copy it into the spool is what the limit is there to prevent.
                words = f"{limit >> 20} MiB" if limit >= 2**20 else f"{limit} bytes"
                self._wait([file], f"is larger than {words}; make it smaller, or remove it")

    # --- sidecars ----------------------------------------------------------------------------

    def _asks(self) -> list[Ask]:
        files = [file for file in self._left() if self.view.kind(file) == "sidecar"]
        found = [self._ask(file) for file in files if file.settled]
        asks = [ask for ask in found if ask is not None]
        return sorted(asks, key=lambda a: (-a.sidecar.priority, a.file.first_seen, a.file.name))

    def _ask(self, file: InboxFile) -> Ask | None:
        """Return what a settled sidecar asks for; None when it is placed already."""
        blank = Sidecar(file.name)
        try:
            sidecar = self.read_sidecar(file)
        except SidecarError as error:
            return Ask(file, blank, error=error)
        except NstdError as error:  # cannot be read just now
            if not file.taken and self.now < file.first_seen + self.view.rules.pair_timeout_s:
                self._unread[file.name] = file
            self._wait([file], error.message.rstrip("."))
            return None
        if sidecar is None:
            self.ignored.append(file)
            self._placed.add(file.name)
            return None
        if _refusal(file):
            return Ask(file, blank, error=_refused(file))
        ask = resolve(self.view, file, sidecar)
        # Its old files are left to others: a new sidecar may name them, too.
        old = ask.error is None and all(each.file.taken for each in ask.inputs())
        if old:
            self._placed.add(file.name)
        return None if old else ask

    def _place_asks(self, asks: list[Ask]) -> None:
        wanted: dict[str, list[Ask]] = defaultdict(list)
        for ask in asks:
            for each in ask.inputs() if ask.error is None else ():
                wanted[each.file.name].append(ask)
        for ask in asks:
            if ask.error is None:
                self._place_ask(ask, wanted)
            else:
                self._place_broken(ask, ask.error, wanted)
        for users in wanted.values():
            files = [each.file for ask in users for each in ask.inputs()]
            self._wait(files, f"belongs to '{shown(users[0].file.name)}'")

    def _place_broken(
        self, ask: Ask, error: NstdError, wanted: Mapping[str, Sequence[Ask]]
    ) -> None:
        """Fail a sidecar, and with it the photograph that it was meant for."""
        own = self.view.of_stem(self.view.key(ask.file), "photo", "content")
        own += [each.file for each in ask.inputs()[:-1]]
        free = {f.name: f for f in own if f.name not in self._placed and f.name not in wanted}
        writing = next((file for file in free.values() if not file.settled), None)
        if self._is_old([*free.values(), ask.file]):
            return
        if writing is None:
            self._fail([*free.values(), ask.file], error)
        else:
            self._wait([ask.file], f"waits until '{shown(writing.name)}' is written")
            self._wait(free.values(), f"belongs to '{shown(ask.file.name)}'")

    def _place_ask(self, ask: Ask, wanted: Mapping[str, Sequence[Ask]]) -> None:
        inputs = ask.inputs()
        files = [each.file for each in inputs]
        own = [file for file in files if len(wanted[file.name]) == 1]
        busy = next((file for file in files if file.name in self._placed), None)
        writing = next((file for file in files if not file.settled), None)
        unread = next(iter(self._unread), None)
        if unread is not None:
            self._wait([ask.file], f"waits until '{shown(unread)}' can be read")
        elif busy is not None:
            behind = "comes after another job with" if busy.name in self._taken else "waits for"
            self._wait([ask.file], f"{behind} '{shown(busy.name)}'")
        elif writing is not None:
            self._wait([ask.file], f"waits until '{shown(writing.name)}' is written")
        elif ask.missing or ask.content is None:
            name = shown(ask.missing[0])
            reason = f"waits for '{name}' beside it"
            self._wait_or_fail(own, reason, lambda: _never_came(ask, name))
        elif problem := ask.problem:
            self._wait_or_fail(own, problem, lambda: _unusable_style(problem))
        else:
            shared = [JobInput(e.file, e.role, len(wanted[e.file.name]) > 1) for e in inputs]
            stem = self.view.parts[ask.file.name].stem
            spec = make_spec(
                self.view, ask.content, ask.styles, ask.mask, stem=stem, sidecar=ask.sidecar
            )
            self._admit(shared, spec)

    # --- pairs -------------------------------------------------------------------------------

    def _place_pairs(self) -> None:
        halves: dict[str, list[InboxFile]] = defaultdict(list)
        for file in self._left():
            if self.view.kind(file) in {"content", "style", "mask"}:
                halves[self.view.key(file)].append(file)
        for key, files in halves.items():
            self._place_pair(key, files)

    def _place_pair(self, key: str, files: list[InboxFile]) -> None:
        contents, masks = self._of(files, "content"), self._of(files, "mask")
        styles: Styles = [(file, 1.0) for file in self._of(files, "style")]
        stem = shown(self.view.parts[files[0].name].stem)
        writing = self._writing(key, files)
        if self._is_old(files):
            return
        if writing is not None:
            self._wait(files, f"waits until '{shown(writing.name)}' is written")
        elif len(contents) > 1 or len(masks) > 1:
            self._fail(files, _ambiguous(contents if len(contents) > 1 else masks))
        elif not contents or not styles:
            absent = "the style" if contents else "the photograph"
            reason = f"half a pair: {absent} of '{stem}' is not there"
            self._wait_or_fail(files, reason, lambda: _half(stem, reason))
        else:
            mask = masks[0] if masks else None
            own_stem = self.view.parts[contents[0].name].stem
            spec = make_spec(self.view, contents[0], styles, mask, stem=own_stem)
            self._admit(job_inputs(contents[0], styles, mask), spec)

    def _of(self, files: list[InboxFile], kind: str) -> list[InboxFile]:
        found = [file for file in files if self.view.kind(file) == kind]
        return sorted(found, key=lambda file: (self.view.parts[file.name].number, file.name))

    def _writing(self, key: str, files: list[InboxFile]) -> InboxFile | None:
        """Return a file that is not there yet, a sidecar of the same stem included."""
        near = [*files, *self.view.of_stem(key, "sidecar")]
        return next((f for f in near if not f.settled or f.name in self._unread), None)

    # --- photographs -------------------------------------------------------------------------

    def _place_photo(self, file: InboxFile) -> None:
        key, style = self.view.key(file), self.view.default_style
        writing = self._writing(key, [file])
        styles: Styles = [] if style is None else [(style, 1.0)]
        if not file.settled:
            self._wait([file], file.why)
        elif unreadable([JobInput(file, "content")]) is not None:
            self._admit([JobInput(file, "content")], None)
        elif writing is not None:
            self._wait([file], f"waits until '{shown(writing.name)}' is written")
        elif style is None:
            hint = self._hint(key)
            remedy = "put it into inbox/<style>/, or its style or sidecar beside it"
            self._wait_or_fail(
                [file],
                f"no style yet{hint}: {remedy}",
                lambda: _no_style(file, hint, self.view.menu()),
            )
        elif problem := problem_of(styles):
            self._wait_or_fail([file], problem, lambda: _unusable_style(problem))
        else:
            stem = self.view.parts[file.name].stem
            spec = make_spec(self.view, file, styles, None, stem=stem)
            self._admit([JobInput(file, "content")], spec)

    def _hint(self, key: str) -> str:
        """Say what looks like the photograph's sidecar, or its style's folder, and is none."""
        near = next((file.name for file in self.ignored if self.view.key(file) == key), None)
        if near:
            return f" ('{shown(near)}' holds none of the keys of a sidecar)"
        name = self.view.folder.rpartition("/")[2]
        close = difflib.get_close_matches(name, self.view.library, n=1) if name else []
        guess = f"'{shown(name)}' is no style: did you mean '{shown(close[0])}'?" if close else ""
        return f" ({guess})" if guess else ""


# --- sentences -------------------------------------------------------------------------------


def _refusal(file: InboxFile) -> str | None:
    why = refusal(file.name)
    if why is None and refusal(file.folder):
        return "the name of its folder is not valid UTF-8, or holds a control character"
    return why


def _refused(file: InboxFile) -> UnsafeFileError:
    return UnsafeFileError(
        f"'{shown(file.path)}' is refused: {_refusal(file)}.",
        "Give it another name, and put it into the inbox again.",
    )


def _never_came(ask: Ask, name: str) -> UnpairedError:
    return UnpairedError(
        f"'{shown(ask.file.name)}' names '{name}', which never came.",
        "Put both into the same folder of the inbox, and check how the name is written.",
    )


def _unusable_style(problem: str) -> UnpairedError:
    return UnpairedError(
        f"{problem[0].upper()}{problem[1:]}.", "Mend the style in the library, then try again."
    )


def _ambiguous(files: list[InboxFile]) -> UnpairedError:
    names = " and ".join(f"'{shown(file.name)}'" for file in files[:2])
    return UnpairedError(
        f"Two files claim the same part of one pair: {names}.",
        "Keep one of the two, and put the pair into the inbox again.",
    )


def _half(stem: str, reason: str) -> UnpairedError:
    return UnpairedError(
        f"{reason[0].upper()}{reason[1:]}.",
        f"Put {stem}.content.jpg and {stem}.style.jpg into the inbox together; or, if it is just a "
        "photograph, give it a name that does not end in content, style or mask, and put it into "
        "inbox/<style>/.",
    )


def _no_style(file: InboxFile, hint: str, menu: str) -> UnpairedError:
    return UnpairedError(
        f"'{shown(file.name)}' came without a style{hint}.",
        "Put it into inbox/<style>/, name it NAME.content.jpg beside NAME.style.jpg, or add a "
        f"sidecar NAME.yaml with `style: STYLE`.{menu}",
    )
