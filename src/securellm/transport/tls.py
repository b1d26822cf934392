"""Whom a connection trusts: verification always on, TLS 1.2 or newer."""

import ssl

from securellm.transport.model import TlsOptions


def build_context(options: TlsOptions) -> ssl.SSLContext:
    """A client context; ValueError names the option that cannot be used."""
    if options.pinned is not None and options.ca_file is not None:
        raise ValueError("pinned takes the place of ca_file")
    if options.client_key is not None and options.client_cert is None:
        raise ValueError("client_key needs client_cert")
    try:
        context = ssl.create_default_context(cafile=options.ca_file, cadata=options.pinned)
    except (OSError, ssl.SSLError) as error:
        name = "ca_file" if options.pinned is None else "pinned"
        raise ValueError(f"{name} cannot be used: {_reason(error)}") from None
    if options.pinned is not None:
        # The certificate as a whole is what is known of the peer: who issued it, and for which name, says nothing more.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # The standard library would write session keys wherever SSLKEYLOGFILE says.
    context.keylog_filename = None  # type: ignore[assignment]
    if options.client_cert is not None:
        try:
            # An empty password makes an encrypted key an error; without one OpenSSL would ask on the terminal.
            context.load_cert_chain(options.client_cert, options.client_key, password="")
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"client_cert or client_key cannot be used: {_reason(error)}") from None
    return context


def _reason(error: OSError) -> str:
    return (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or "not readable as PEM"
