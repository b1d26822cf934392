"""Whom a connection trusts: verification always on, TLS 1.2 or newer."""

import ssl

from securellm.transport.model import TlsOptions


def build_context(options: TlsOptions) -> ssl.SSLContext:
    """A client context; ValueError names the option that cannot be used."""
    if options.client_key is not None and options.client_cert is None:
        raise ValueError("client_key needs client_cert")
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"ca_file cannot be used: {_reason(error)}") from None
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
