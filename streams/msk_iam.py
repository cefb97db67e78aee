"""Tokens of Amazon MSK's IAM access control, as `streams.msk_iam:token`; needs the extra `msk`.

The credentials are those that AWS' own tools would use; the region is that of `AWS_REGION` or `AWS_DEFAULT_REGION`.
"""

from __future__ import annotations

import os


def token() -> str:
    """A new token, signed on this machine; good for a quarter of an hour, in which a connection is made.

    Raises:
        RuntimeError: the extra is not installed, no region is set, or there are no credentials.
    """
    try:
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
    except ImportError as error:
        raise RuntimeError("needs the extra `msk`: pip install 'ebbtide[msk]'") from error
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not region:
        raise RuntimeError("set AWS_REGION to the region of the cluster")
    try:
        signed, _ = MSKAuthTokenProvider.generate_auth_token(region)
    except AttributeError as error:  # the signer's own, of credentials that are None
        raise RuntimeError("no AWS credentials were found") from error
    return str(signed)
