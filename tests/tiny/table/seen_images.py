"""Pipelines that edit images which their language model sees too, or which they place into the text."""

from functools import partial
from typing import Any

import diffusers
import torch
from diffusers.pipelines.joyimage.image_processor import JoyImageEditImageProcessor

from tiny.pipelines import (
    DYNAMIC,
    SHIFTED,
    _qwen_image,
    awake,
    certain,
    loud,
    pointwise,
    qwen_vae,
    qwen_vl,
    seeing_processor,
    vae,
)
from tiny.table.entry import Entry
from tiny.table.images import BAD, MASK, MASKED, OTHER, OTHER64, PHOTO64, PICTURE, QWEN
from tiny.table.language_models_of_images import INVERTED, _omnigen
from tiny.table.rows import photo, row
from tiny.table.seeing_models_of_images import (
    _bria_fibo2,
    _dreamlite,
    _kandinsky5,
    _longcat,
    _qwen_image21,
    _seeing,
)

SIZE = {"height": 64, "width": 64}
GUIDED = {"negative_prompt": "blurry", "true_cfg_scale": 4.0}
EDITED = SIZE | GUIDED
IN_TEXT = "draw <img><|image_1|></img> as a cat"
LEVELS = (1, 1, 1, 1, 1)  # of autoencoders that are given pictures of 1024 pixels a side, whatever the user gave
WIDE = partial(qwen_vae, LEVELS, 0)


def _qwen_edit(vae: Any = WIDE, **net: Any) -> dict[str, Any]:
    seen = {"text_encoder": loud(qwen_vl()), "processor": seeing_processor()}
    return _qwen_image(**net) | {"vae": pointwise(vae()), **seen}


def _longcat_edit() -> dict[str, Any]:
    processor = seeing_processor()
    seen = {"text_processor": processor, "tokenizer": processor.tokenizer}
    return _longcat() | {"vae": vae(True, 16, block_out_channels=[4, 8, 8, 8, 8, 8]), **seen}


def _omnigen_edit() -> dict[str, Any]:
    parts = _omnigen()
    torch.nn.init.normal_(parts["transformer"].patch_embedding.input_image_proj.weight)
    return parts | {"vae": certain(parts["vae"])}


def _loud(build: Any) -> dict[str, Any]:
    parts = build()
    return parts | {"text_encoder": loud(parts["text_encoder"])}


class OneBucket(JoyImageEditImageProcessor):
    """Pictures of 32 pixels a side: the buckets of its class are of a million pixels."""

    def get_default_height_width(self, image: Any, height: int | None = None, width: int | None = None) -> Any:
        return 32, 32


def _joy(net: Any, halvings: int) -> dict[str, Any]:
    transformer = net(
        in_channels=4, hidden_size=32, num_attention_heads=2, text_dim=16, num_layers=1, rope_dim_list=[8, 4, 4]
    )
    vae = diffusers.AutoencoderKLWan(
        base_dim=4,
        decoder_base_dim=4,
        z_dim=4,
        dim_mult=[1] * (halvings + 1),
        num_res_blocks=0,
        temperal_downsample=[False] * halvings,
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.8, 1.0, 1.2],
        scale_factor_spatial=2**halvings,
    )
    seen = _seeing()
    return {"transformer": awake(transformer), "vae": vae, "tokenizer": seen["processor"].tokenizer, **seen}


def _joy_edit() -> dict[str, Any]:
    parts = _joy(diffusers.JoyImageEditTransformer3DModel, 1)
    return parts | {"vae": certain(parts["vae"])}


def _joy_plus() -> dict[str, Any]:
    parts = _joy(diffusers.JoyImageEditPlusTransformer3DModel, 4)
    return parts | {"vae": pointwise(parts["vae"])}


QWEN_LAYERED = partial(
    _qwen_edit,
    partial(WIDE, channels=8, colours=4),  # of a layer, its opacity too
    in_channels=32,
    out_channels=8,
    use_additional_t_cond=True,
    use_layer3d_rope=True,
)
ENTRIES: dict[str, Entry] = {
    "QwenImageEditPipeline": row(diffusers.QwenImageEditPipeline, _qwen_edit, QWEN, EDITED | {"image": PICTURE}),
    "QwenImageEditPlusPipeline, one picture": row(
        diffusers.QwenImageEditPlusPipeline, _qwen_edit, QWEN, EDITED | {"image": PICTURE}
    ),
    "QwenImageEditPlusPipeline, two pictures": row(
        diffusers.QwenImageEditPlusPipeline, _qwen_edit, QWEN, EDITED | {"image": [PICTURE, OTHER]}
    ),
    "QwenImageEditInpaintPipeline": row(
        diffusers.QwenImageEditInpaintPipeline, _qwen_edit, QWEN, GUIDED | MASKED | {"strength": 0.9}
    ),
    "QwenImageLayeredPipeline": row(
        diffusers.QwenImageLayeredPipeline,
        QWEN_LAYERED,
        QWEN,
        GUIDED
        | {
            "image": PICTURE.convert("RGBA"),
            "layers": 2,
            "resolution": 640,
            "cfg_normalize": True,
            "use_en_prompt": True,
        },
    ),
    "LongCatImageEditPipeline": row(
        diffusers.LongCatImageEditPipeline, _longcat_edit, DYNAMIC, BAD | {"image": PICTURE, "guidance_scale": 4.5}
    ),
    "Kandinsky5I2IPipeline": row(
        diffusers.Kandinsky5I2IPipeline,
        partial(_kandinsky5, True),
        SHIFTED,
        BAD | {"height": 32, "width": 32, "image": photo(1, 32)},
        attributes={"resolutions": [(32, 32)]},
    ),
    "OmniGenPipeline, one picture": row(
        diffusers.OmniGenPipeline,
        _omnigen_edit,
        INVERTED,
        {"height": 32, "width": 32, "input_images": [photo(1, 32)], "img_guidance_scale": 1.6},
        IN_TEXT,
    ),
    "DreamLitePipeline, one picture": row(
        diffusers.DreamLitePipeline,
        partial(_loud, _dreamlite),
        DYNAMIC,
        BAD | {"height": 16, "width": 16, "image": PICTURE},
    ),
    "DreamLiteMobilePipeline, one picture": row(
        diffusers.DreamLiteMobilePipeline,
        partial(_loud, _dreamlite),
        DYNAMIC,
        {"height": 16, "width": 16, "image": PICTURE},
    ),
    "QwenImage21Pipeline, one picture": row(
        diffusers.QwenImage21Pipeline, _qwen_image21, DYNAMIC, GUIDED | {"image": PICTURE, "output_resolution": 64}
    ),
    "QwenImage21Pipeline, two pictures": row(
        diffusers.QwenImage21Pipeline,
        _qwen_image21,
        DYNAMIC,
        GUIDED | {"image": [PICTURE, OTHER], "output_resolution": 64},
    ),
    "BriaFibo2Pipeline, one picture": row(
        diffusers.BriaFibo2Pipeline,
        _bria_fibo2,
        DYNAMIC,
        BAD | SIZE | {"image": PHOTO64},
        attributes={"text_encoder_out_layers": ((0, 1, 2),) * 6},
    ),
    "BriaFibo2Pipeline, a mask": row(
        diffusers.BriaFibo2Pipeline,
        _bria_fibo2,
        DYNAMIC,
        BAD | {"image": PICTURE, "mask": MASK, "height": 16, "width": 16},
        attributes={"text_encoder_out_layers": ((0, 1, 2),) * 6},
    ),
    "JoyImageEditPipeline": row(
        diffusers.JoyImageEditPipeline,
        _joy_edit,
        SHIFTED,
        {"image": PICTURE},
        attributes={"vae_image_processor": OneBucket(vae_scale_factor=2)},
    ),
    "JoyImageEditPlusPipeline": row(
        diffusers.JoyImageEditPlusPipeline, _joy_plus, SHIFTED, SIZE | {"images": [PHOTO64, OTHER64]}
    ),
}
