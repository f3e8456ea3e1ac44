from __future__ import annotations

import pytest
import torch

from rampipe.attention.logits import exact_products, scaled_logits


def factors(dtype, dim=64):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 96, dim, generator=generator).to(dtype)
    key = torch.randn(2, 200, dim, generator=generator).to(dtype)
    return query, key, (query.double() @ key.double().transpose(1, 2)) * dim**-0.5


@pytest.mark.parametrize("dim", [8, 64, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_logits_are_exact_in_every_type(dtype, dim):
    query, key, expected = factors(dtype, dim)
    is_bfloat16 = dtype == torch.bfloat16
    logits = scaled_logits(
        query.float(), key.float(), scaling=dim**-0.5, holds_bfloat16=is_bfloat16, out=torch.empty(2, 96, 200)
    )
    assert logits.dtype == torch.float32
    assert float((logits - expected).abs().max()) < 2e-6
    rounded = (query @ key.transpose(1, 2)).float() * dim**-0.5
    assert dtype == torch.float32 or float((rounded - expected).abs().max()) > 1e-4  # twin: a product of that type


def test_the_setting_of_the_process_comes_back():
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    with exact_products():
        assert matmul.fp32_precision == "bf16"
    assert matmul.fp32_precision == before
    with pytest.raises(KeyError), exact_products():
        raise KeyError
    assert matmul.fp32_precision == before
    assert torch.get_float32_matmul_precision() == "highest"
