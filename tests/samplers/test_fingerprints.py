"""What tells a module from another of its class: weights in any form, and what was put on it since it was loaded."""

import copy
import functools

import accelerate
import pytest
import torch
from diffusers import PyramidAttentionBroadcastConfig
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from torch import nn

from contracts.pipeline_family import own
from samplers.pipelines.fingerprints import changes, step_caches, weights
from tiny.pipelines import seeded, tiny


class Tuned(nn.Module):
    """A layer with adapters, whose states have the names that peft gives them; the scale is in no weight."""

    def __init__(self, base):
        super().__init__()
        self.base_layer = base
        self.down, self.up = (nn.ModuleDict({"style": nn.Linear(*size, bias=False)}) for size in ((4, 1), (1, 4)))
        self.scaling, self.disable_adapters, self.merged_adapters = {"style": 1.0}, False, []

    @property
    def active_adapters(self):
        return ["style"]

    def forward(self, x):
        added = 0 if self.disable_adapters else self.scaling["style"] * self.up["style"](self.down["style"](x))
        return self.base_layer(x) + added


class Skips:
    """A cache as tools put it on a model: its settings in a dict, its state beside them."""

    def __init__(self, every):
        self.params, self.at = {"every": every}, 0

    def onto(self, unet):
        inner = unet.mid_block.forward

        @functools.wraps(inner)
        def skipping(*args, **kwargs):
            self.at += 1
            return inner(*args, **kwargs) if self.at % self.params["every"] == 0 else args[0]

        unet.mid_block.forward = skipping


@seeded
def with_adapter(unet):
    unet.conv_extra = nn.Sequential(Tuned(nn.Linear(4, 4)))
    return unet.conv_extra[0]


@seeded
def image_prompts(unet, scale):
    found = dict(unet.attn_processors)
    wanted = IPAdapterAttnProcessor2_0(16, 32, num_tokens=(4,), scale=scale)
    unet.set_attn_processor({name: wanted if "attn2" in name else one for name, one in found.items()})


def doubled(module, args, output):
    return output * 2


CHANGES = {
    "an adapter's scale": (with_adapter, lambda unet: unet.conv_extra[0].scaling.update(style=0.25),
                           "adapters of unet", "'style' at 1 ", "'style' at 0.25 "),
    "an adapter off": (with_adapter, lambda unet: setattr(unet.conv_extra[0], "disable_adapters", True),
                       "adapters of unet", "'style' at 1 ", "off "),
    "an adapter fused": (with_adapter, lambda unet: unet.conv_extra[0].merged_adapters.append("style"),
                         "adapters of unet", "'style' at 1 ", "'style' fused, 'style' at 1 "),
    "an image prompt's scale": (lambda unet: image_prompts(unet, 0.5), lambda unet: image_prompts(unet, 0.75),
                                "attention of unet", "IPAdapterAttnProcessor2_0(scale=[0.5])", "(scale=[0.75])"),
    "FreeU": (lambda unet: None, lambda unet: unet.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4),
              "FreeU of unet", "", "b1=1.2, b2=1.4, s1=0.9, s2=0.2 (in "),
    "a cache's settings": (lambda unet: Skips(3).onto(unet), lambda unet: Skips(5).onto(unet),
                           "forward of unet", "params={'every': 3}", "params={'every': 5}"),
    "a hook": (lambda unet: None, lambda unet: unet.mid_block.register_forward_hook(doubled),
               "hooks of unet", "", "test_fingerprints.doubled (in 1 part"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_weights_do_not_show_is_told(name):
    before, after, what, was, now = CHANGES[name]
    unet = copy.deepcopy(tiny("sd").unet)
    before(unet)
    old, known = changes({"unet": unet}).get(what, ""), weights(unet)
    assert was in old and old == changes({"unet": unet}).get(what, "")
    after(unet)
    assert now in changes({"unet": unet})[what] and changes({"unet": unet})[what] != old
    assert weights(unet) == known or "image prompt" in name, "the weights don't show it"


def test_the_parts_of_a_module_are_told_apart():
    unets = [copy.deepcopy(tiny("sd").unet) for _ in range(2)]
    for at, unet in enumerate(unets):
        unet.several = nn.ModuleList(with_adapter(nn.Module()) for _ in range(2))
        unet.several[at].scaling["style"] = 0.5
    first, second = (changes({"unet": unet})["adapters of unet"] for unet in unets)
    assert first != second and all("'style' at 1" in one and "'style' at 0.5" in one for one in (first, second))


def test_modules_as_they_were_loaded_have_no_changes_whatever_runs_them():
    pipe = own(tiny("sd"))
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    known = {name: weights(part) for name, part in modules.items()}
    assert changes(modules) == {}
    accelerate.cpu_offload(pipe.unet, execution_device="cpu")
    modules["text_encoder"] = torch.compile(pipe.text_encoder)
    assert next(pipe.unet.parameters()).device.type == "meta"
    assert changes(modules) == {} and {name: weights(part) for name, part in modules.items()} == known
    pipe.vae.enable_tiling()
    assert list(changes(modules)) == ["tiling of vae"]


def test_offloaded_weights_are_hashed_where_they_lie():
    plain, other = (copy.deepcopy(tiny("sd").unet) for _ in range(2))
    with torch.no_grad():
        other.conv_in.weight.add_(0.1)
    for unet in (plain, other):
        accelerate.cpu_offload(unet, execution_device="cpu")
    assert weights(plain) != weights(other)


class Packed(torch.Tensor):
    """Weights as quantising libraries hold them: whole numbers and a scale, and hardly an operation."""

    @staticmethod
    def __new__(cls, numbers, scale):
        return torch.Tensor._make_wrapper_subclass(cls, numbers.shape, dtype=torch.float32)

    def __init__(self, numbers, scale):
        self.numbers, self.scale = numbers, scale

    def __tensor_flatten__(self):
        return ["numbers", "scale"], {"bits": 8}

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.detach.default:
            return cls(args[0].numbers, args[0].scale)
        raise NotImplementedError(f"{function} of {cls.__name__}")


@seeded
def packed(numbers, scale):
    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(Packed(torch.full((4, 4), numbers, dtype=torch.int8), torch.tensor(scale)), False)
    layer.bias = None
    return layer


@seeded
def dynamic(value):
    layer = nn.Sequential(nn.Linear(4, 4))
    nn.init.constant_(layer[0].weight, value)
    nn.init.zeros_(layer[0].bias)
    return torch.ao.quantization.quantize_dynamic(layer, {nn.Linear}, dtype=torch.qint8)


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize(
    ("same", "others"),
    [
        (lambda: packed(3, 0.5), (lambda: packed(4, 0.5), lambda: packed(3, 0.25))),
        (lambda: dynamic(0.5), (lambda: dynamic(0.25),)),
    ],
    ids=["numbers and a scale", "torch's dynamic quantisation"],
)
def test_quantised_weights_are_hashed_by_what_they_hold(same, others):
    assert weights(same()) == weights(same())
    assert len({weights(one()) for one in (same, *others)}) == 1 + len(others)


def test_a_cache_is_told_by_its_settings_and_not_by_the_address_of_a_function():
    def broadcasting(every):
        transformer = own(tiny("flux")).transformer
        transformer.enable_cache(
            PyramidAttentionBroadcastConfig(
                spatial_attention_block_skip_range=every, current_timestep_callback=lambda: every
            )
        )
        return step_caches([transformer])

    assert broadcasting(2) == broadcasting(2) != broadcasting(3)
    assert "0x" not in broadcasting(2)[0] and "\n" not in broadcasting(2)[0]


def test_adapters_of_peft_are_told():
    peft = pytest.importorskip("peft")
    unet = copy.deepcopy(tiny("sd").unet)
    bare = weights(unet)
    config = peft.LoraConfig(r=2, lora_alpha=2, target_modules=["to_q"], init_lora_weights=False)
    seeded(unet.add_adapter)(config, "style")
    assert weights(unet) != bare
    states = [changes({"unet": unet})["adapters of unet"]]
    for change in (lambda: unet.set_adapters(["style"], [0.5]), unet.disable_adapters):
        change()
        states.append(changes({"unet": unet})["adapters of unet"])
    assert [state.split(" (")[0] for state in states] == ["'style' at 1", "'style' at 0.5", "off"]
