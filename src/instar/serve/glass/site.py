"""The page itself: the files beside this one, under /glass/."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from .front import is_here, off
from .route import GlassRoute
from .trouble import Trouble

WEB = Path(__file__).parent / "web"
INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".json": "application/json", ".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon",
}  # fmt: skip

router = APIRouter(route_class=GlassRoute, include_in_schema=False)


@dataclass(frozen=True)
class File:
    """packed: the same by gzip, for whoever can read that."""

    content: bytes
    packed: bytes
    kind: str
    tag: str
    changed: int


class Site:
    """The files of a folder, by their names, each read when it is first asked for and when it has changed. A name is
    looked up among those that were found, and never opened."""

    def __init__(self, folder: Path = WEB) -> None:
        self.folder = folder
        self._names: dict[str, Path] = {}
        self._files: dict[str, File] = {}

    def find(self, name: str) -> File | None:
        """None where there is no such file."""
        if name not in self._names:
            self._names = {
                path.relative_to(self.folder).as_posix(): path for path in self.folder.rglob("*")
                if path.is_file() and not path.is_symlink() and path.suffix in TYPES
            }  # fmt: skip
        path = self._names.get(name)
        try:
            return None if path is None else self._read(name, path)
        except OSError:  # it was taken away meanwhile
            return None

    def _read(self, name: str, path: Path) -> File:
        changed = path.stat().st_mtime_ns
        if name not in self._files or self._files[name].changed != changed:
            content = path.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            self._files[name] = File(content, gzip.compress(content, mtime=0), TYPES[path.suffix], tag, changed)
        return self._files[name]


SITE = Site()


@router.api_route("/", methods=["GET", "HEAD"])
async def root(request: Request) -> Response:
    """Where the page is on, a browser that asks for nothing gets to it."""
    if not is_here(request):
        raise HTTPException(404)
    return to_page()


@router.api_route("/glass", methods=["GET", "HEAD"])
async def home(request: Request) -> Response:
    """The page without its slash, against which its files could not be named."""
    if not is_here(request):
        raise off()
    return to_page()


@router.api_route("/glass/{path:path}", methods=["GET", "HEAD"])
async def file(path: str, request: Request) -> Response:
    """A file of the page."""
    if not is_here(request):
        raise off()
    found = SITE.find(path or INDEX)
    if found is None:
        raise Trouble(404, "not_found", "the page has no such file")
    packed = "gzip" in [
        word.partition(";")[0].strip() for word in request.headers.get("accept-encoding", "").split(",")
    ]
    # two forms of one file are two things to a cache
    tag = found.tag[:-1] + '-gz"' if packed else found.tag
    headers = {"etag": tag, "cache-control": "no-cache", "vary": "accept-encoding"}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    if packed:
        headers["content-encoding"] = "gzip"
    return Response(found.packed if packed else found.content, media_type=found.kind, headers=headers)


def to_page() -> Response:
    """Relative, since there may be a proxy that knows us by another path."""
    return Response(status_code=307, headers={"location": "glass/", "cache-control": "no-cache"})
