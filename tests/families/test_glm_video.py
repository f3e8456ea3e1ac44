"""Videos of GLM-4V are read as images; what comes out is what the model's own way gives."""

from __future__ import annotations

import pytest
import torch

from rampipe.models.prompts import collate
from rampipe.models.replica import Replica
from tests.families import checks, glm
from tests.families.samples import one_image, one_video


def _own_way(replica: Replica) -> torch.Tensor:
    """Logits of the video as the family's processor would pass it, with positions that the model computes."""
    prompt = checks.make_prompt(replica, one_video())
    batch = collate(replica, [prompt]).inputs
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    inputs["mm_token_type_ids"] = 2 * prompt.inputs["mm_token_type_ids"][None]
    inputs |= {name: prompt.images[name] for name in ("pixel_values_videos", "video_grid_thw")}
    with torch.no_grad():
        return replica.model(**inputs, use_cache=False).logits


@pytest.mark.parametrize("builder", glm.BUILDERS, indirect=True, ids=str)
def test_a_video_is_read_as_by_the_model_itself(replica: Replica) -> None:
    with torch.no_grad():
        ours = replica.model(**collate(replica, [checks.make_prompt(replica, one_video())]).inputs).logits
    assert torch.allclose(ours, _own_way(replica), atol=1e-5)
    still = collate(replica, [checks.make_prompt(replica, one_image())])
    assert still.inputs["image_grid_thw"].shape[0] == 1


@pytest.mark.parametrize("builder", glm.BUILDERS[:1], indirect=True, ids=str)
def test_a_video_and_an_image_in_one_batch(replica: Replica) -> None:
    """The model's own way has no such batch: its image and video tokens are the same."""
    samples = [one_video(), one_image(), one_video(num_frames=6)]
    assert checks.eager_difference(replica, samples) < 1e-4
    assert checks.sharing_difference(replica, samples) < 1e-4
