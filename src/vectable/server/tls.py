"""TLS of a server: its certificate, and what is asked of clients."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from vectable.errors import InvalidInput

log = logging.getLogger("vectable.server")
_LOOK_S = 60.0


class Certificate:
    """A certificate and its key, in files that may be renewed while the server runs."""

    def __init__(self, cert: str, key: str) -> None:
        """Raises InvalidInput, naming the file and what is wrong with it."""
        self._files = (cert, key)
        self.context = _context()
        self._stamp = self._load()

    def _load(self) -> tuple[int, ...]:
        cert, key = self._files
        for file, setting in ((cert, "tls_cert"), (key, "tls_key")):
            try:
                with open(file, "rb"):
                    pass
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise InvalidInput(f"the {setting} {file!r} cannot be read: {reason}") from None
        stamp = tuple(Path(file).stat().st_mtime_ns for file in self._files)
        try:
            # A context whose files do not fit loses what it had: tried on another, the one in use keeps it.
            for context in (_context(), self.context):
                # No password is asked for on a terminal that nobody watches.
                context.load_cert_chain(cert, key, password=lambda: "")
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or "they hold no certificate and key"
            raise InvalidInput(
                f"{cert!r} and {key!r} cannot be used: {str(reason).replace('_', ' ').lower()}",
                hint="give a certificate (with its chain) and its key without a password, in PEM",
            ) from None
        return stamp

    async def keep_fresh(self) -> None:
        """Takes renewed files for new connections, until cancelled; keeps the old where they are unusable."""
        while True:
            await asyncio.sleep(_LOOK_S)
            self.refresh()

    def refresh(self) -> bool:
        """Takes the files anew when they changed; whether it did."""
        try:
            if tuple(Path(file).stat().st_mtime_ns for file in self._files) == self._stamp:
                return False
            self._stamp = self._load()
        except (InvalidInput, OSError) as error:
            log.warning("the certificate is not renewed: %s", error)
            return False
        log.info("the certificate was renewed")
        return True


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def certificate_of(cert: str, key: str) -> Certificate | None:
    """What the settings name; None where they name none. Raises InvalidInput."""
    if not cert and not key:
        return None
    if not cert or not key:
        missing, given = ("tls_cert", "tls_key") if not cert else ("tls_key", "tls_cert")
        raise InvalidInput(f"{given} is set, and {missing} is not", hint="TLS needs both files")
    return Certificate(cert, key)
