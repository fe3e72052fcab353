"""What sections are made from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from clbench.report.data import Results
from clbench.report.gallery import Gallery, Strip, gallery, strips
from clbench.report.numbers import Numbers
from clbench.report.pictures import Album
from clbench.report.rows import Frame


@dataclass
class Material:
    """All that the sections about one suite are made from; pictures are picked once, the gallery's before those behind cells."""

    numbers: Numbers
    album: Album

    @property
    def results(self) -> Results:
        return self.numbers.results

    @property
    def frame(self) -> Frame:
        return self.results.frame

    @cached_property
    def folder(self) -> Path:
        """The folder that holds the runs."""
        return next(iter(self.results.runs().values())).folder.path.parent

    @cached_property
    def gallery(self) -> Gallery:
        return gallery(self.results, self.album)

    @cached_property
    def strips(self) -> dict[str, Strip]:
        _ = self.gallery  # it has the first call on the budget of pictures
        return strips(self.results, self.album)

    @property
    def reduced(self) -> str:
        """At which size pictures are shown and where the originals are, in a sentence; "" where the page has them whole."""
        _ = self.strips
        album, runs = self.album, self.results.runs()
        if album.original <= album.side or not runs:
            return ""
        one = self.results.candidate or next(iter(runs.values()))
        return (
            f"Pictures are reduced to {album.side} px here (option --pictures-px of `clbench report`); the originals of "
            f"{album.original} px lie in pictures/ of each run folder, such as {one.folder.path.name}/pictures/."
        )
