"""The page's own files."""

import hashlib
import os
import re

import httpx
import pytest

from instar.config.options import GlassOptions, ServeOptions
from instar.serve.gate import GateRules, shows_page
from instar.serve.glass import site as module
from instar.serve.glass.site import TYPES, WEB, Site

POLICY = "default-src 'self'"
KEY = "canary-key-7f3a"
CLIENT = httpx.Client(trust_env=False, verify=False, timeout=20, headers={"accept-encoding": "identity"})


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A page of two files, with a secret beside its folder."""
    folder = tmp_path / "web"
    (folder / "core").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>中")
    (folder / "core" / "a.js").write_text("export const a = 1")
    (folder / "notes.txt").write_text("not for the page")
    (folder / "out.js").symlink_to(tmp_path / "secret.js")
    (tmp_path / "secret.js").write_text("secret")
    monkeypatch.setattr(module, "SITE", Site(folder))
    return folder


@pytest.fixture
def page(web, make_service, serve_here):
    """A server with the page."""
    return serve_here(make_service(), glass=ServeOptions(model="/nowhere"))


def get(hosted, path, **headers):
    """The path as it stands, which no client has tidied."""
    request = CLIENT.build_request("GET", hosted.url, headers=headers)
    request.url = request.url.copy_with(raw_path=path.encode())
    return CLIENT.send(request)


def test_files_come_with_their_type_and_may_be_kept_as_long_as_they_are_the_same(page):
    """Index for the folder itself, a type that scripts are run by, an ETag, and 304 for who has it already."""
    index = get(page, "/glass/")
    assert (index.status_code, index.text) == (200, "<!doctype html>中")
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    script = get(page, "/glass/core/a.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    tag = script.headers["etag"]
    assert tag == f'"{hashlib.sha256(script.content).hexdigest()[:16]}"'
    for said in (tag, f'W/{tag}, "x"', "*"):
        known = get(page, "/glass/core/a.js", **{"if-none-match": said})
        assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)
    assert get(page, "/glass/core/a.js", **{"if-none-match": index.headers["etag"]}).status_code == 200
    assert CLIENT.head(f"{page.url}/glass/").headers["content-length"] == str(len(index.content))


def test_files_are_packed_for_whoever_can_unpack_them(page):
    """By gzip where it is accepted, under a tag of its own, and the same file behind it."""
    plain = get(page, "/glass/core/a.js")
    packed = get(page, "/glass/core/a.js", **{"accept-encoding": "br;q=1, gzip;q=0.8"})
    assert (packed.headers["content-encoding"], packed.content) == ("gzip", plain.content)
    assert packed.headers["vary"] == plain.headers["vary"] == "accept-encoding"
    assert packed.headers["etag"] != plain.headers["etag"]
    asked = {"accept-encoding": "gzip", "if-none-match": packed.headers["etag"]}
    assert get(page, "/glass/core/a.js", **asked).status_code == 304
    assert "content-encoding" not in plain.headers


def test_a_file_that_was_changed_is_read_again(page, web):
    """And one that is new is found."""
    first = get(page, "/glass/core/a.js")
    (web / "core" / "a.js").write_text("export const a = 2")
    os.utime(web / "core" / "a.js", ns=(1, 1))
    second = get(page, "/glass/core/a.js")
    assert second.text == "export const a = 2"
    assert second.headers["etag"] != first.headers["etag"]
    (web / "b.css").write_text("b{}")
    assert get(page, "/glass/b.css").text == "b{}"
    (web / "b.css").unlink()
    assert get(page, "/glass/b.css").status_code == 404


NO_FILES = [
    "/glass/nothing.js", "/glass/core", "/glass/core/", "/glass/../secret.js", "/glass/%2e%2e/secret.js",
    "/glass/core/..%2f..%2fsecret.js", "/glass//etc/passwd", "/glass/out.js", "/glass/notes.txt",
    "/glass/\\..\\secret.js",    "/glass/core/a.js%00", "/glass/core/a.js/", "/glass/Core/a.js",
]  # fmt: skip


def test_what_is_no_file_of_the_page_is_404(page):
    """Names are looked up among those that were found: no path leads out of the folder, nor a link."""
    for path in NO_FILES:
        answer = get(page, path)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"
        assert "secret" not in answer.text
        assert "root:" not in answer.text


def test_every_answer_forbids_what_is_not_ours(page):
    """Files, faults, the API and what leads to the page: CSP, no referrer, no frame, no guessed types, once each."""
    for path in ("/", "/glass", "/glass/", "/glass/nothing", "/glass/api/models", "/glass/api/nothing"):
        headers = get(page, path).headers
        assert headers["content-security-policy"].split("; ")[0] == POLICY, path
        assert headers.get_list("x-content-type-options") == ["nosniff"]
        assert headers.get_list("referrer-policy") == ["no-referrer"]
        assert headers.get_list("x-frame-options") == ["DENY"]
        assert headers.get_list("cache-control") in (["no-cache"], ["no-store"])
    assert "content-security-policy" not in get(page, "/health").headers


def test_the_way_to_the_page_is_shown(page):
    """Relative, so that it is right behind a proxy too."""
    for path in ("/", "/glass"):
        answer = get(page, path)
        assert answer.status_code == 307
        assert answer.headers["location"] == "glass/"
        assert answer.next_request.url == f"{page.url}/glass/"


def test_files_need_no_key_and_the_api_does(web, make_service, serve_here):
    """The page has to be there to ask for the key; a page of another origin may ask for nothing."""
    rules = GateRules.of(ServeOptions(), [KEY])
    page = serve_here(make_service(), rules, ServeOptions(model="/nowhere"))
    assert get(page, "/glass/").status_code == get(page, "/glass/core/a.js").status_code == 200
    assert get(page, "/").status_code == 307
    for path in ("/glass/api/models", "/glass/api/runs", "/glass/api", "/glass/api/core/a.js", "/glass/apix"):
        refused = get(page, path)
        assert refused.status_code == 401, path
        assert refused.headers["content-security-policy"].startswith(POLICY)
        assert get(page, path, authorization=f"Bearer {KEY}").status_code != 401
    assert get(page, "/glass/", origin="https://evil.example").status_code == 403
    assert get(page, "/glass/api/models", host="evil.example", authorization=f"Bearer {KEY}").status_code == 403


def test_where_it_is_off_nothing_of_it_is_there(web, make_service, serve_here):
    """403 off for the page and its API, and / is no address, as ever."""
    page = serve_here(make_service(), glass=ServeOptions(model="/nowhere", glass=GlassOptions(mode="off")))
    for path in ("/glass", "/glass/", "/glass/core/a.js", "/glass/api/models", "/glass/api/runs", "/glass/api/nothing"):
        answer = get(page, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "off"), path
    assert get(page, "/").status_code == 404


@pytest.mark.parametrize(
    ("mode", "host", "on"),
    [
        ("auto", "127.0.0.1", True), ("auto", "localhost", True), ("auto", "::1", True), ("auto", "0.0.0.0", False),
        ("auto", "192.168.1.4", False), ("on", "0.0.0.0", True), ("off", "127.0.0.1", False),
    ],
)  # fmt: skip
def test_it_is_on_where_only_this_machine_can_call_or_it_is_wanted(mode, host, on):
    """glass.mode: auto heeds the address."""
    assert shows_page(ServeOptions(host=host, glass=GlassOptions(mode=mode))) is on


def test_every_file_of_the_page_can_be_served_and_names_what_is_there():
    """Of the real page: no file without a type, none that is not found, and each import and link of one leads to
    another."""
    site = Site()
    files = [path for path in WEB.rglob("*") if path.is_file()]
    assert files
    assert {path.suffix for path in files} <= set(TYPES)
    for path in files:
        assert site.find(path.relative_to(WEB).as_posix()).content == path.read_bytes()
        pattern = {".js": r'(?:from|import)\s+"(\.[^"]+)"', ".html": r'(?:src|href)="([^"#:]+)"'}.get(path.suffix)
        for name in re.findall(pattern, path.read_text()) if pattern else ():
            assert (path.parent / name).resolve().is_file(), f"{path.name} names {name}"
