"""The kernel's log-sum is seen on its way, and the kernel gives what it gives unseen."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from rampipe.attention.kernel_watch import KernelWatch

CAUSAL = torch.ones(32, 32, dtype=torch.bool).tril()


def tensors(dtype, num_kv_heads):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 6, 32, 8, generator=generator).to(dtype)
    key, value = (torch.randn(2, num_kv_heads, 32, 8, generator=generator).to(dtype) for _ in range(2))
    return query, key, value


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "options", [{"is_causal": True}, {"attn_mask": CAUSAL}, {"is_causal": True, "enable_gqa": True}]
)
def test_log_sum_of_the_very_kernel(options, dtype, mode):
    query, key, value = tensors(dtype, 2 if "enable_gqa" in options else 6)
    with mode():
        plain = scaled_dot_product_attention(query, key, value, **options)
        with KernelWatch() as watch:
            watched = scaled_dot_product_attention(query, key, value, **options)
    assert torch.equal(plain, watched)
    keys = key.double().repeat_interleave(6 // key.shape[1], dim=1)
    logits = (query.double() @ keys.transpose(2, 3) * 8**-0.5).masked_fill(~CAUSAL, -torch.inf)
    tolerance = 2e-6 if dtype == torch.float32 else 1e-4
    assert float((watch.log_total(query) - logits.logsumexp(dim=-1)).abs().max()) < tolerance


def test_heads_packed_as_rows_keep_their_order():
    """Decoding: one query, the heads of a kv_head packed beside each other."""
    query, key, value = tensors(torch.float32, 2)
    query = query[:, :, -1:]
    with torch.no_grad(), KernelWatch() as watch:
        scaled_dot_product_attention(query.reshape(2, 2, 3, 8), key, value)
    keys = key.repeat_interleave(3, dim=1)
    expected = (query @ keys.transpose(2, 3) * 8**-0.5).logsumexp(dim=-1)
    torch.testing.assert_close(watch.log_total(query), expected, atol=1e-6, rtol=0)


def test_no_kernel_two_kernels_or_another_shape_give_none():
    query, key, value = tensors(torch.float32, 6)
    with torch.no_grad(), KernelWatch() as watch:
        torch.softmax(query @ key.transpose(2, 3), dim=-1) @ value
    assert watch.log_total(query) is None
    for times, expected in ((1, False), (2, True)):
        with torch.no_grad(), KernelWatch() as watch:
            for _ in range(times):
                scaled_dot_product_attention(query, key, value)
        assert (watch.log_total(query) is None) is expected
    assert watch.log_total(query[:1]) is None
