"""The three claims: few heads hold the retrieval, they cause the answers, and they make it fast to be few."""

from __future__ import annotations

from rampipe.heads.claims.causal import causal
from rampipe.heads.claims.claim import Claim, claim_lines
from rampipe.heads.claims.fast import fast
from rampipe.heads.claims.sparse import sparse

__all__ = ["Claim", "causal", "claim_lines", "fast", "sparse"]
