"""Image classifiers of the true architectures with seeded random weights: DINOv2 and its linear head, torchvision's."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tiny.rewards import made_lively

LABELS = ("tench, Tinca tinca", "crane", "red circle, disc", "crane", "golden retriever")
RESIZE, CROP = 32, 28


def write_linear_head(directory: Path, labels: tuple[str, ...] = LABELS, **processor: Any) -> Path:
    """A tiny `Dinov2ForImageClassification` and its processor, which resizes to 32 pixels and crops 28."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2ForImageClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = Dinov2Config(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            mlp_ratio=2,
            image_size=42,  # positions are interpolated, as in the published models
            patch_size=7,
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
        )
        model: Any = made_lively(Dinov2ForImageClassification(config))
        for layer in model.dinov2.encoder.layer:
            layer.layer_scale1.lambda1.data.fill_(1.0)
        model.save_pretrained(directory)
    imagenet = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    size = {"size": {"shortest_edge": RESIZE}, "crop_size": {"height": CROP, "width": CROP}}
    BitImageProcessor(**{**size, **imagenet, **processor}).save_pretrained(directory)
    return directory


def torchvision_model(name: str, classes: int, **options: Any) -> Any:
    """A classifier of torchvision whose signal neither dies nor explodes over its layers, in eval mode."""
    import torchvision

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, weights=None, num_classes=classes, **options)
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.8, 1.2)
    return model.eval()


def save_torchvision(model: nn.Module, path: Path) -> Path:
    """Save as torchvision publishes its weights."""
    torch.save(model.state_dict(), path)
    return path
