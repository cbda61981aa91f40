"""The TNG web API against a local server that misbehaves in every way that servers do."""

from __future__ import annotations

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import numpy as np
import pytest

from galineage.errors import ConfigError, FileFormatError
from galineage.sources.native.web import KEY, TngApi

SECRET = "k3y-that-nobody-may-see"
H = 0.6774


def cutout_bytes():
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for name, value in {"BoxSize": 75000.0, "HubbleParam": H, "Omega0": 0.3089, "Time": 1.0, "CutoutID": 7}.items():
            file.require_group("Header").attrs[name] = value
        file["PartType4/Coordinates"] = rng.normal(1000, 5, (50, 3)) % 75000
        file["PartType4/Velocities"] = rng.normal(30, 5, (50, 3))
        file["PartType4/Masses"] = np.full(50, 1e-4)
        file["PartType4/GFM_StellarFormationTime"] = np.full(50, 0.5)
    return stream.getvalue()


CUTOUT = cutout_bytes()
SUBHALO = {
    **{f"pos_{axis}": 1000.0 for axis in "xyz"},
    **{f"vel_{axis}": 30.0 for axis in "xyz"},
    "halfmassrad_stars": 6.0,
}


class Server(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan, self.seen, self.other = [], [], None

    @property
    def base(self):
        return f"http://127.0.0.1:{self.server_address[1]}/api"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def send(self, code, body=b"", length=None, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.server.seen.append((self.path, self.headers.get("api-key")))
        if self.server.plan and (step := self.server.plan.pop(0)) is not None:
            return step(self)
        if self.headers.get("api-key") != SECRET:
            return self.send(403)
        if "cutout.hdf5" in self.path:
            return self.send(200, CUTOUT)
        about = SUBHALO if "subhalos" in self.path else {"hubble": H, "redshift": 0.0}
        return self.send(200, json.dumps(about).encode())


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv(KEY, SECRET)
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def api(server, tmp_path):
    return TngApi("TNG100-1", tmp_path / "cache", server.base, tries=3, wait=0.01, timeout=0.5)


def test_a_galaxy_comes_in_the_catalogues_frame_and_once(server, api):
    galaxy = api.galaxy(99, 7)
    assert (galaxy.id, galaxy.snapshot, len(galaxy.stars)) == ("7", 99, 50)
    np.testing.assert_allclose(galaxy.centre, 1000 / H)
    np.testing.assert_allclose(galaxy.velocity, 30)
    assert galaxy.r_half == pytest.approx(6 / H)
    asked = len(server.seen)
    again = api.galaxy(99, 7)
    assert len(server.seen) == asked, "the second time from the cache"
    np.testing.assert_array_equal(again.stars.position, galaxy.stars.position)


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_busy_server_is_asked_again(server, api, code):
    server.plan = [lambda answer: answer.send(code)] * 2
    assert api.cutout(99, 7).read_bytes() == CUTOUT


@pytest.mark.parametrize("code", [429, 500])
def test_a_server_that_stays_busy_is_given_up(server, api, code):
    server.plan = [lambda answer: answer.send(code)] * 9
    with pytest.raises(FileFormatError, match=f"asked 3 times: it answers {code}"):
        api.cutout(99, 7)
    assert len(server.seen) == 3


@pytest.mark.parametrize(("code", "words"), [(401, "not accepted"), (403, "refused"), (404, "no such galaxy")])
def test_a_refusal_is_final_and_explained(server, api, code, words):
    server.plan = [lambda answer: answer.send(code, b"<html>no</html>")]
    with pytest.raises(FileFormatError, match=words) as caught:
        api.cutout(99, 7)
    assert len(server.seen) == 1
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("fault", ["cut", "cut every time", "connection lost", "silence"])
def test_cut_bodies_and_lost_connections_never_reach_the_cache(server, api, fault):
    def cut(answer):
        answer.send(200, CUTOUT[:1000], length=len(CUTOUT))
        answer.close_connection = True

    def lost(answer):
        answer.connection.close()

    def silent(answer):
        threading.Event().wait(0.8)

    step = {"connection lost": lost, "silence": silent}.get(fault, cut)
    server.plan = [step] * (9 if fault == "cut every time" else 1)
    if fault == "cut every time":
        with pytest.raises(FileFormatError, match="asked 3 times"):
            api.cutout(99, 7)
        assert not list((api.cache).glob("*")) if api.cache.exists() else True
    else:
        assert api.cutout(99, 7).read_bytes() == CUTOUT


def test_a_web_page_in_place_of_hdf5_is_told(server, api):
    server.plan = [lambda answer: answer.send(200, b"<!DOCTYPE html><p>please log in</p>")]
    with pytest.raises(FileFormatError, match="a web page in place of HDF5"):
        api.cutout(99, 7)
    assert not list(api.cache.glob("*.hdf5")) if api.cache.exists() else True


def test_a_damaged_file_in_the_cache_is_fetched_again(server, api):
    path = api.cutout(99, 7)
    path.write_bytes(CUTOUT[:-5] + b"xxxxx")
    assert api.cutout(99, 7).read_bytes() == CUTOUT
    assert len(server.seen) == 2


def test_the_key_follows_redirects_within_its_host_only(server, api):
    other = Server()
    thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        other.plan = [lambda answer: answer.send(200, CUTOUT)]
        server.plan = [lambda answer: answer.send(302, Location=f"{other.base}/elsewhere.hdf5")]
        assert api.cutout(99, 7).read_bytes() == CUTOUT
        assert other.seen == [("/api/elsewhere.hdf5", None)]
    finally:
        other.shutdown()
        thread.join()
        other.server_close()
    server.plan = [lambda answer: answer.send(302, Location="/api/here/cutout.hdf5")]
    assert api.cutout(99, 8).read_bytes() == CUTOUT
    assert server.seen[-1] == ("/api/here/cutout.hdf5", SECRET)


def test_redirects_to_other_kinds_of_places_are_refused(server, api):
    server.plan = [lambda answer: answer.send(302, Location="file:///etc/passwd")] * 3
    with pytest.raises(FileFormatError):
        api.cutout(99, 7)


def test_without_a_key_nothing_is_sent(server, api, monkeypatch):
    monkeypatch.delenv(KEY)
    with pytest.raises(ConfigError, match=KEY):
        api.cutout(99, 7)
    monkeypatch.setenv(KEY, "two\nlines")
    with pytest.raises(ConfigError, match=KEY):
        api.cutout(99, 7)
    assert not server.seen


def test_the_key_is_nowhere(server, api, capsys, caplog):
    api.galaxy(99, 7)
    server.plan = [lambda answer: answer.send(404)]
    with pytest.raises(FileFormatError) as caught:
        api.cutout(99, 9)
    written = b"".join(path.read_bytes() for path in api.cache.rglob("*") if path.is_file())
    captured = capsys.readouterr()
    for text in (repr(api), str(caught.value), captured.out, captured.err, caplog.text, written.decode("latin1")):
        assert SECRET not in text
    assert all(SECRET not in path.name for path in api.cache.rglob("*"))


@pytest.mark.parametrize("answer", [b"[]", b"not json", b'{"halfmassrad_stars": null}'])
def test_answers_that_are_no_galaxy_are_refused(server, api, answer):
    server.plan = [lambda step: step.send(200, answer)]
    with pytest.raises(FileFormatError):
        api.galaxy(99, 7)


@pytest.mark.parametrize("bad", [{"simulation": "../x"}, {"tries": 0}, {"base": "file:///tmp"}, {"timeout": 0}])
def test_impossible_settings_are_refused(tmp_path, bad):
    with pytest.raises(ConfigError):
        TngApi(**{"simulation": "TNG100-1", "cache": tmp_path, **bad})
