"""What a process shows and trusts, for both planes: TLS contexts, gRPC's objects, and the rule for peers' names.

Files are read again when they change; knows nothing of who connects.
"""

import logging
import ssl
import threading
from collections.abc import Callable
from typing import Literal

import grpc

from prfaas.control.certificate_files import CertificateFiles, Certificates, read_certificates
from prfaas.control.peer_names import PeerNames
from prfaas.core.clock import Clock
from prfaas.core.errors import ConfigError

Note = Literal["reloaded", "reload_failed", "data_refused", "control_refused"]
"""New files are in use; new files are unfit, and the old ones stay in use; a peer was refused on that plane."""

log = logging.getLogger(__name__)


class Credentials:
    """One process's certificate, key and authority. Any thread may ask.

    Whoever asks causes the look at the files that is due, so that nothing has to run for it. What was handed out before
    stays as it is: new connections take what is new.
    """

    def __init__(
        self,
        files: CertificateFiles,
        names: PeerNames,
        reload_s: float,
        clock: Clock,
        unix_time: Clock,
        note: Callable[[Note], None],
    ) -> None:
        """Raises ConfigError for files that cannot be used."""
        self._files = files
        self._names = names
        self._reload_s = reload_s
        self._clock = clock
        self._unix_time = unix_time
        self._note = note
        self._lock = threading.Lock()
        self._looked_s = clock()
        self._current = read_certificates(files, names.fleet_name, unix_time())
        self._seen = self._current.stamps
        self._generation = 0

    @property
    def fleet_name(self) -> str:
        return self._names.fleet_name

    @property
    def generation(self) -> int:
        """Grows when other files come into use: who keeps something made of older ones makes it anew."""
        self.certificates()
        return self._generation

    def certificates(self) -> Certificates:
        """Those in use."""
        with self._lock:
            now_s = self._clock()
            if now_s - self._looked_s >= self._reload_s:
                self._looked_s = now_s
                self._look()
            return self._current

    def server_context(self) -> ssl.SSLContext:
        """TLS 1.3, and a certificate asked of the client."""
        return self.certificates().server

    def client_context(self) -> ssl.SSLContext:
        """TLS 1.3; names are to be judged with `refusal` after the handshake."""
        return self.certificates().client

    def grpc_server(self) -> grpc.ServerCredentials:
        """Asks every client for a certificate, and takes what is in use at each handshake."""
        return grpc.dynamic_ssl_server_credentials(self._grpc_certificates(), self._grpc_certificates, True)

    def grpc_channel(self) -> grpc.ChannelCredentials:
        """Of what is in use now, for good: a channel lives with what it was made of."""
        now = self.certificates()
        return grpc.ssl_channel_credentials(now.ca_pem, now.key_pem, now.cert_pem)

    def refusal(self, names: list[str]) -> str | None:
        """Why a peer whose certificate is for these DNS names is refused; None if it is not."""
        return self._names.refusal(names)

    def count_refused(self, plane: Literal["data", "control"]) -> None:
        self._note("data_refused" if plane == "data" else "control_refused")

    def _grpc_certificates(self) -> grpc.ServerCertificateConfiguration:
        now = self.certificates()
        return grpc.ssl_server_certificate_configuration([(now.key_pem, now.cert_pem)], now.ca_pem)

    def _look(self) -> None:
        stamps = self._files.stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            self._current = read_certificates(self._files, self._names.fleet_name, self._unix_time())
        except ConfigError as error:
            # Perhaps one of three files is written and the others are about to be.
            log.warning("the new certificates are not used, the old ones are: %s", error)
            self._note("reload_failed")
            return
        self._seen = self._current.stamps
        self._generation += 1
        self._note("reloaded")
        log.info("%s is used from now on", self._files.cert)
