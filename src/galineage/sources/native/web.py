"""The TNG web API: galaxies, cut-outs and trees over the network, kept with their checksums."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from galineage.atomic import write_json, writing
from galineage.errors import ConfigError, DataError, FileFormatError
from galineage.sources.native.memory import read_cutout
from galineage.sources.native.sublink import read_tree_cutout
from galineage.sources.native.tng_stars import FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galineage.stars import Galaxy
    from galineage.trees import Tree

__all__ = ["TngApi"]

BASE = "https://www.tng-project.org/api"
KEY = "TNG_API_KEY"
"""Environment variable that holds the personal key. It is sent as the header ``api-key``, and nowhere written."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_AGAIN = {429, 500, 502, 503, 504}
_MEANING = {
    401: f"the key is not accepted: set {KEY} to the key of your account",
    403: f"access is refused: set {KEY} to the key of your account, and look whether it may see this simulation",
    404: "there is no such galaxy, snapshot or simulation: compare names with the web page",
}
_LARGEST_JSON = 20_000_000


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects; the key goes along only within the host that it is for."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        found = super().redirect_request(req, fp, code, msg, headers, newurl)
        if found is None:
            return None
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme != "https"):
            raise FileFormatError(f"the server redirects to {new.scheme}://{new.netloc}", where=_plain(req.full_url))
        for name in ("Api-key", "api-key"):
            found.remove_header(name)
        if (old.scheme, old.netloc) == (new.scheme, new.netloc) and req.get_header("Api-key"):
            found.add_header("Api-key", str(req.get_header("Api-key")))
        return found


@dataclass(frozen=True)
class TngApi:
    """One simulation of the TNG project's web API.

    Attributes
    ----------
    simulation : str
        Name in the API, for example ``TNG100-1``.
    cache : path
        Folder of what has been downloaded. A file whose checksum is not what it was when it came is fetched again.
    base : str
        Address of the API.
    tries : int
        Attempts for each request: busy servers (429, 5xx), cut bodies and lost connections are tried again, with a
        wait that doubles, or as long as the server asks for.
    wait : float
        First wait, seconds.
    timeout : float
        Longest silence of the server, seconds.

    Raises
    ------
    ConfigError
        If a setting is impossible. That the key is missing is said when it is first needed.

    Examples
    --------
    >>> galaxy = TngApi("TNG100-1", "cache").galaxy(99, 394242)  # doctest: +SKIP
    """

    simulation: str
    cache: str | os.PathLike[str]
    base: str = BASE
    tries: int = 5
    wait: float = 1.0
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if not self.simulation or not set(self.simulation) <= set(_LETTERS):
            raise ConfigError(f"a simulation is called {self.simulation!r}", expected="letters, digits and -")
        if not (self.tries >= 1 and self.wait >= 0 and self.timeout > 0):
            raise ConfigError("tries must be 1 or more, wait 0 or more, timeout above 0")
        if urlsplit(self.base).scheme not in ("http", "https"):
            raise ConfigError(f"the address of the API is {self.base}", expected="https://...")

    def subhalo(self, snapshot: int, number: int) -> dict[str, Any]:
        """Return what the catalogue says of a subhalo, in its own units (ckpc/h, 1e10 Msun/h)."""
        path = self._fetch(f"snapshots/{int(snapshot)}/subhalos/{int(number)}/", "json")
        try:
            found = json.loads(path.read_text())
        except ValueError as error:
            raise FileFormatError(f"the server's answer is no JSON: {error}", where=str(path)) from error
        if not isinstance(found, dict):
            raise FileFormatError("the server's answer is not about one subhalo", where=str(path))
        return found

    def cutout(self, snapshot: int, number: int, fields: tuple[str, ...] = FIELDS) -> Path:
        """Fetch the stars of a subhalo; return the HDF5 file in the cache."""
        place = f"snapshots/{int(snapshot)}/subhalos/{int(number)}/cutout.hdf5?stars={','.join(fields)}"
        return self._fetch(place, "hdf5")

    def tree(self, snapshot: int, number: int) -> Tree:
        """Fetch all progenitors of a subhalo in the SubLink tree."""
        path = self._fetch(f"snapshots/{int(snapshot)}/subhalos/{int(number)}/sublink/full.hdf5", "hdf5")
        return read_tree_cutout(path, _number(self._about(), "hubble"))

    def galaxy(self, snapshot: int, number: int) -> Galaxy:
        """Fetch a galaxy with its stars, in the frame of the catalogue.

        Raises
        ------
        FileFormatError
            If the server refuses, does not answer, or what it sends is not what was asked for.
        DataError
            If the galaxy has no stars.
        """
        known = self.subhalo(snapshot, number)
        scale = 1 / ((1 + self._redshift(snapshot)) * _number(self._about(), "hubble"))
        radius = _number(known, "halfmassrad_stars") * scale
        if not radius > 0:
            raise DataError("it has no stars", where=f"{self.simulation}, snapshot {snapshot}, subhalo {number}")
        return read_cutout(
            self.cutout(snapshot, number),
            self.simulation,
            str(number),
            centre=[_number(known, f"pos_{axis}") for axis in "xyz"],
            velocity=[_number(known, f"vel_{axis}") for axis in "xyz"],
            r_half=radius,
            snapshot=int(snapshot),
        )

    def _about(self) -> dict[str, Any]:
        return dict(json.loads(self._fetch("", "json").read_text()))

    def _redshift(self, snapshot: int) -> float:
        return _number(json.loads(self._fetch(f"snapshots/{int(snapshot)}/", "json").read_text()), "redshift")

    def _fetch(self, place: str, kind: str) -> Path:
        """Return the file of an address below the simulation's, from the cache if it is whole."""
        address = f"{self.base}/{self.simulation}/{place}"
        stem = hashlib.sha256(address.encode()).hexdigest()[:32]
        path, card = (Path(self.cache) / f"{stem}.{end}" for end in (kind, "card.json"))
        if path.is_file() and card.is_file() and _is_whole(path, card):
            return path
        body = self._get(address, kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as temporary:
            Path(temporary).write_bytes(body)
        write_json(card, {"address": address, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()})
        return path

    def _get(self, address: str, kind: str) -> bytes:
        wait, reason = self.wait, ""
        for attempt in range(self.tries):
            if attempt:
                time.sleep(wait)
                wait = 2 * wait
            try:
                return self._once(address, kind)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code not in _AGAIN:
                    raise FileFormatError(
                        f"the server answers {error.code}", where=address, advice=_MEANING.get(error.code, "")
                    ) from None
                reason = f"it answers {error.code}"
                wait = max(wait, min(_seconds(error.headers.get("Retry-After")), 60.0))
            except _CutError as error:
                reason = str(error)
            except FileFormatError:
                raise  # it is an OSError too, and no passing one
            except (OSError, http.client.HTTPException) as error:
                reason = f"{type(error).__name__}: {getattr(error, 'reason', error)}"
        raise FileFormatError(
            f"the server was asked {self.tries} times: {reason}", where=address, advice="try again later"
        )

    def _once(self, address: str, kind: str) -> bytes:
        key = os.environ.get(KEY, "")
        if not key or not key.isascii() or not key.isprintable():
            raise ConfigError(
                f"no usable key in {KEY}", advice=f"make an account at the TNG project's page and set {KEY} to its key"
            )
        request = urllib.request.Request(address, headers={"Api-key": key})  # noqa: S310 - http or https, checked
        opener = urllib.request.build_opener(_Redirects)
        with opener.open(request, timeout=self.timeout) as answer:
            body = bytes(answer.read() if kind == "hdf5" else answer.read(_LARGEST_JSON))
            promised = answer.headers.get("Content-Length")
        if promised is not None and promised.isdigit() and len(body) != int(promised):
            raise _CutError(f"{len(body)} of {promised} bytes came")
        if kind == "hdf5" and not body.startswith(_HDF5):
            begins = "a web page" if body.lstrip()[:1] == b"<" else "something else"
            raise FileFormatError(f"the server sent {begins} in place of HDF5", where=address, advice=_MEANING[403])
        return body


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class _CutError(Exception):
    """A body that was cut."""


def _is_whole(path: Path, card: Path) -> bool:
    try:
        known = json.loads(card.read_text())
        return bool(known["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isdigit() else 0.0


def _number(known: Mapping[str, Any], name: str) -> float:
    try:
        return float(known[name])
    except (KeyError, TypeError, ValueError):
        raise FileFormatError(f"the server's answer has no usable {name!r}", expected="a number") from None


def _plain(address: str) -> str:
    return address.split("?")[0]
