"""Whether the server in this container is ready: exit code 0 or 1. Standard library only."""

import os
import ssl
import sys
import urllib.error
import urllib.request


def main() -> int:
    """Asks /health/ready on loopback, as VECTABLE_PORT and VECTABLE_TLS_CERT say."""
    port = os.environ.get("VECTABLE_PORT") or os.environ.get("PORT") or "3000"
    encrypted = bool(os.environ.get("VECTABLE_TLS_CERT"))
    # It never leaves this machine, and the certificate is made out to the name others use.
    context = ssl._create_unverified_context() if encrypted else None  # noqa: S323
    url = f"{'https' if encrypted else 'http'}://localhost:{port}/health/ready"
    # Containers are often given http_proxy, which is for what lies outside.
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with direct.open(url, timeout=4) as answer:
            return 0 if answer.status == 200 else 1
    except (OSError, urllib.error.URLError) as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
