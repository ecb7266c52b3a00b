"""Fixtures of this folder."""

from tests.upstream.tls_kit import certificates

__all__ = ["certificates"]
