"""Basic auth: bcrypt runs off the event loop, and right passwords are remembered so that they are checked once.

bcrypt is slow on purpose (60 ms at cost 10), so many wrong passwords must not delay users who are known already.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import bcrypt

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_WAITING = 16
"""Checks that wait for the one thread; more are refused at once."""
MAX_REMEMBERED = 128
MAX_PASSWORD_BYTES = 72
"""bcrypt takes no more."""


class TooManyChecksError(Exception):
    """So many passwords wait to be checked that this one is not; the same may be asked again in a second."""


class Passwords:
    """Checks `Authorization` headers; used from one event loop.

    Only right passwords are remembered, so that an answer that comes at once says nothing to who does not know one: had
    wrong ones been remembered, a stranger could ask which were tried before. An unknown user is compared with the hash
    of a known one, so that it takes just as long.
    """

    def __init__(self) -> None:
        self._salt = secrets.token_bytes(32)
        self._right: dict[bytes, None] = {}
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="web-passwords")

    async def are_right(self, authorization: str, users: Mapping[str, bytes]) -> bool:
        """Whether the header names one of the users (bcrypt hashes by name) and its password.

        Raises TooManyChecksError where too many wait already.
        """
        user, password = _split(authorization)
        if user is None or len(password) > MAX_PASSWORD_BYTES:
            return False
        name = self._digest(user.encode())
        stand_in = sorted(users)[int.from_bytes(name) % len(users)]
        bcrypt_hash = users.get(user, users[stand_in])
        proof = self._digest(name + bcrypt_hash + password)
        # A user who was renamed or removed may have been right with what is another one's hash now.
        if proof in self._right and user in users:
            return True
        right = await self._check(password, bcrypt_hash) and user in users
        if right:
            if len(self._right) >= MAX_REMEMBERED:
                self._right.clear()
            self._right[proof] = None
        return right

    def close(self) -> None:
        """Give up the checks that wait."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _check(self, password: bytes, bcrypt_hash: bytes) -> bool:
        if self._waiting >= MAX_WAITING:
            raise TooManyChecksError
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, _matches, password, bcrypt_hash)
        finally:
            self._waiting -= 1

    def _digest(self, content: bytes) -> bytes:
        return hashlib.blake2b(content, key=self._salt, digest_size=32).digest()


def _split(authorization: str) -> tuple[str | None, bytes]:
    """Return user and password of a header of https://www.rfc-editor.org/rfc/rfc7617, or None where it is not one."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None, b""
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode() if colon else None), password
    except ValueError:
        return None, b""


def _matches(password: bytes, bcrypt_hash: bytes) -> bool:
    try:
        return bcrypt.checkpw(password, bcrypt_hash)
    except ValueError:
        return False
